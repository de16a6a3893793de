"""Tests of WandbLogger with a server that cannot be reached, and with killed processes."""

import os
import socket
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys, time
from glowplug import Engine, Events
from glowplug_wandb import WandbLogger

trainer = Engine(lambda engine, batch: {"loss": batch})
logger = WandbLogger("digits", timeout=2, settings={"init_timeout": 2})
logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, "train", output_transform=dict)
trainer.run(range(50))
began = time.monotonic()
logger.close()
print(round(time.monotonic() - began, 1), logger.counts.pending)
"""


def run(runs, *command, **environment):
    """Run this interpreter in the folder of the runs, and return what it printed and how long it took."""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=runs.folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, time.monotonic() - began


@pytest.fixture(params=["refuses", "hangs"])
def server(request):
    """Return the address of a server that refuses connections, or accepts them and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if request.param == "refuses":
            listening.close()
        yield f"http://127.0.0.1:{listening.getsockname()[1] if request.param == 'hangs' else 9}"


def test_server_that_is_down(runs, server):
    """Neither the run, nor close(), nor the end of the process waits for the server; the records are delivered later (L1, L2)."""
    printed, took = run(
        runs, "-c", SCRIPT, WANDB_MODE="online", WANDB_BASE_URL=server, WANDB_API_KEY="a" * 40
    )
    waited, pending = printed.split()[-2:]
    assert float(waited) < 3
    assert int(pending) == 50
    assert took < 30
    run(runs, "-m", "glowplug", "spool", "replay", "--timeout", "60")
    (records,) = runs.read()
    assert [row["glowplug/step"] for row in runs.rows(records)] == list(range(1, 51))
