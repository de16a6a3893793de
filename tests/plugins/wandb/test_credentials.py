"""Tests of API keys: WandbLogger neither asks for one nor passes one on."""

import os
import pickle
import pty
import signal
import sys
import time

import pytest
import wandb

from glowplug_wandb import WandbLogger

KEY = "canary" + "a" * 40
SCRIPT = """
from glowplug_wandb import WandbLogger

logger = WandbLogger("digits", timeout=3, spool="spool", on_error="raise")
logger.log_scalars({"loss": 0.5}, 1)
try:
    logger.flush()
except ConnectionError as error:
    print("error:", error, flush=True)
print("typed:", input(), flush=True)
logger.on_error = "warn"
logger.close()
"""


def test_no_question_at_a_terminal(runs, monkeypatch):
    """Without an API key, W&B asks nothing at the terminal: the input belongs to the script, and the record waits."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_SILENT", "false")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NETRC", str(runs.folder / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(runs.folder)
        os.execv(sys.executable, [sys.executable, "-c", SCRIPT])
    printed, limit = b"", time.monotonic() + 60
    try:
        for awaited in (b"configured", b"typed: my answer"):
            while awaited not in printed and b"Enter your choice" not in printed and time.monotonic() < limit:
                printed += os.read(terminal, 1024)
            os.write(terminal, b"my answer\n")
    except OSError:
        # The terminal is closed.
        pass
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)
    assert b"error: no API key for https://" in printed
    assert b"typed: my answer" in printed
    assert b"Enter your choice" not in printed


@pytest.mark.parametrize(
    "settings",
    [{"api_key": KEY, "quiet": True}, wandb.Settings(api_key=KEY, quiet=True)],
    ids=["dict", "object"],
)
def test_pickle(settings):
    """The pickle of a logger contains the settings, but no API key."""
    logger = WandbLogger("digits", settings=settings)
    data = pickle.dumps(logger)
    assert b"canary" not in data
    copy = pickle.loads(data).init["settings"]
    assert (copy["quiet"] if isinstance(copy, dict) else copy.quiet) is True
    kept = logger.init["settings"]
    assert (kept["api_key"] if isinstance(kept, dict) else kept.api_key) == KEY
