"""A browser for tests that open pages; the module imports only pytest and the standard library."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Seconds for one test, and for what a page has to show.
LIMIT, PAGE_LIMIT = 240, 90
# Rows or columns without the color of a curve that separate two charts.
GAP = 12
# The narrowest curve; points of legends have the same color.
NARROWEST = 100
# The text of a page, including that of web components.
TEXT = """
    (function text(node) {
        if (node.nodeType === Node.TEXT_NODE) return node.data;
        if (["SCRIPT", "STYLE"].includes(node.tagName)) return "";
        return [node.shadowRoot, ...node.childNodes].map(part => part ? text(part) : "").join(" ");
    })(document.body)
"""


class Browser:
    """Headless Chromium with one page, controlled through pipes; it reaches nothing but 127.0.0.1."""

    def __init__(self, program, profile):
        arguments = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
            *("--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
        ]
        self.process = subprocess.Popen(
            # The browser reads commands from descriptor 3 and writes answers to descriptor 4.
            ["sh", "-c", 'exec "$@" 3<&0 4>&1 >/dev/null', "sh", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A process group of the browser and its helpers.
            start_new_session=True,
        )
        # After the limit, the pipe ends, and so does a call that waits for an answer.
        self.timer = threading.Timer(LIMIT, self._kill)
        self.timer.start()
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method, **params):
        """Call a method of the DevTools protocol and return its result."""
        session = {"sessionId": self.session} if self.session else {}
        message = {"id": 1, "method": method, "params": params, **session}
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while True:
            answer = bytearray()
            while (byte := self.process.stdout.read(1)) != b"\0":
                assert byte, f"the browser ended before it answered {method}"
                answer += byte
            found = json.loads(answer)
            # All other messages are events.
            if found.get("id") == 1:
                assert "result" in found, found
                return found["result"]

    def open(self, url, width=1400, height=1600):
        """Open a page in a window of this size."""
        size = {"width": width, "height": height}
        self.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)
        while self.value("document.readyState") != "complete":
            time.sleep(0.1)

    def text(self):
        """Return the text that the page shows now."""
        return self.value(TEXT)

    def screenshot(self):
        """Return a picture of the page, as the bytes of a PNG file."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def curves(self, color):
        """Return the curves of one color, each as an array of heights, one for each column of pixels."""
        return curves_in(io.BytesIO(self.screenshot()), color)

    def value(self, expression):
        """Return the value of a JavaScript expression on the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def close(self):
        """End the browser."""
        self.timer.cancel()
        self._kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()

    def _kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def browser(tmp_path):
    """A browser; without one, the test is skipped."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium is installed; on Debian, .ci/chromium installs it")
    browser = Browser(program, tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture
def eventually():
    """Wait until a function returns a true value, and return its last value: ``eventually(function)``."""

    def wait(function):
        limit = time.monotonic() + PAGE_LIMIT
        while not (value := function()) and time.monotonic() < limit:
            time.sleep(0.5)
        return value

    return wait


def curves_in(file, color, tolerance=30):
    """Return the curves of one color in a picture, each as an array of heights, one for each column of pixels."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    has_color = np.abs(pixels - color).sum(axis=2) < tolerance
    curves = []
    for top, bottom in _stretches(has_color.any(axis=1)):
        band = has_color[top:bottom]
        for left, right in _stretches(band.any(axis=0)):
            if right - left >= NARROWEST:
                chart = band[:, left:right]
                rows = np.arange(len(chart))[:, None]
                heights = -(chart * rows).sum(axis=0) / np.maximum(chart.sum(axis=0), 1)
                filled = chart.any(axis=0)
                columns = np.arange(right - left)
                curves.append(np.interp(columns, columns[filled], heights[filled]))
    return curves


def _stretches(flags):
    """Return the beginnings and ends of the stretches of flags that are set, across gaps shorter than GAP."""
    import numpy as np

    set_at = np.flatnonzero(flags)
    if not set_at.size:
        return []
    breaks = np.flatnonzero(np.diff(set_at) > GAP)
    begins = set_at[np.concatenate(([0], breaks + 1))]
    ends = set_at[np.concatenate((breaks, [-1]))] + 1
    return list(zip(begins.tolist(), ends.tolist(), strict=True))
