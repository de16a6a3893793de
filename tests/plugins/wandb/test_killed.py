"""Tests of WandbLogger in processes that are killed."""

import collections
import os
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import sys, time
from glowplug_wandb import WandbLogger

logger = WandbLogger("digits", timeout=60, spool="spool")
logger.log_scalars({"loss": 0.0}, 0)
logger.flush()
print("open", flush=True)
for step in range(1, int(sys.argv[1])):
    logger.log_scalars({"loss": 0.5}, step)
    if step % 50 == 0:
        time.sleep(0.01)
if sys.argv[2:]:
    assert logger.flush()
print("logged", flush=True)
time.sleep(60)
"""


def kill_after(runs, line, *arguments, seconds=0.0):
    """Run the script, and kill it some seconds after it has printed the line."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        cwd=runs.folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while process.stdout.readline() != f"{line}\n":
            assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(seconds)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)


def replay(runs):
    """Deliver what the killed process left, and return how often each step is in the files of the run."""
    command = [sys.executable, "-m", "glowplug", "spool", "replay", "--folder", "spool"]
    ended = subprocess.run(
        command,
        cwd=runs.folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return collections.Counter(row["glowplug/step"] for records in runs.read() for row in runs.rows(records))


@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_killed_while_it_logs(runs, seconds):
    """Rows that W&B has received, and that still wait in the spool when the process is killed, are not sent again (L2, L3)."""
    kill_after(runs, "open", 100_000, seconds=seconds)
    counts = replay(runs)
    assert set(counts.values()) == {1}
    assert sorted(counts) == list(range(len(counts)))


def test_killed_after_flush(runs, monkeypatch):
    """Rows that were delivered are saved in the run's file within a second, so a killed process does not lose them (L2)."""
    monkeypatch.delenv("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL")
    kill_after(runs, "logged", 300, "flush", seconds=1.0)
    assert replay(runs) == collections.Counter(range(300))
