"""Run digits.py on a terminal, and save a picture of the terminal as docs/images/digits.svg.

tox run -e digits --notest
.tox/digits/bin/python -m pip install pyte
.tox/digits/bin/python docs/examples/pictures/digits_run.py
"""

import contextlib
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.text import Text
from terminal import Terminal, save_picture

PICTURE = Path(__file__).parents[2] / "images" / "digits.svg"
SCRIPT = Path(__file__).parents[1] / "digits.py"
WIDTH = 112
# The progress bars are shown as they are here; at the end, they disappear.
BARS = re.compile(r"epochs: \[9/30\].+iterations \[10/30\]: \[[1-4]", re.DOTALL)


def run_on_terminal(folder: str) -> list[Text]:
    """Run the script in a folder, and return the rows of the terminal within an epoch and after the end."""
    own, device = pty.openpty()
    termios.tcsetwinsize(device, (40, WIDTH))
    terminal = Terminal(WIDTH)
    bars: list[Text] = []
    command = [sys.executable, str(SCRIPT)]
    with subprocess.Popen(command, stdout=device, stderr=device, cwd=folder):  # noqa: S603 - the example
        os.close(device)
        with contextlib.suppress(OSError):  # the script has ended
            while part := os.read(own, 4096):
                terminal.write(part.decode(errors="replace"))
                shown = terminal.rows()
                if not bars and BARS.search("\n".join(row.plain for row in shown)):
                    bars = [row for row in shown if "/30]" in row.plain]
    os.close(own)
    rows = terminal.rows()
    # The earlier rows are about the database; the later ones contain the path of the interpreter.
    first, last = (
        next(n for n, row in enumerate(rows) if text in row.plain)
        for text in ("handwritten digits", "best checkpoint  ")
    )
    return [*bars, *rows[first : last + 1]]


def main() -> None:
    """Run the script and save the picture."""
    with tempfile.TemporaryDirectory() as folder:
        rows = run_on_terminal(folder)
    save_picture(PICTURE, ["$ python docs/examples/digits.py", *rows], title="digits", width=WIDTH)
    print(f"saved {PICTURE}")


if __name__ == "__main__":
    main()
