"""Killed processes lose nothing that was on disk, and resumed runs log nothing twice.

The backend is a SQLite file that may be down. Like MLflow's server, it stores a repeated request once. Each test run has a few
kills; GLOWPLUG_CAMPAIGN=1 sets the full counts.
"""

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from glowplug.loggers import Spool, read_content, spools_in

IS_CAMPAIGN = os.environ.get("GLOWPLUG_CAMPAIGN") == "1"

SCRIPT = """
import os, pickle, sqlite3, sys, time
from contextlib import closing
from pathlib import Path
from glowplug import Engine, Events
from glowplug.loggers import Logger, OutputHandler
from glowplug.phase import Phase

folder, steps, durable = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "durable"

class Store(Logger):
    run = None

    def run_info(self):
        return {"run": self.run} if self.run else {}

    def continue_run(self, info):
        self.run = info["run"]

    def open_backend(self):
        if (folder / "down").exists():
            raise ConnectionError("the backend is down")
        self.run = self.run or f"run-{os.getpid()}"

    def write_scalars_batch(self, rows):
        if (folder / "down").exists():
            raise ConnectionError("the backend is down")
        with closing(sqlite3.connect(folder / "store.db", timeout=30)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS points (run, name, step, time, value, UNIQUE (run, name, step, time))")
            database.executemany(
                "INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?, ?)",
                [(self.run, name, step, time, value) for scalars, step, time in rows for name, value in scalars.items()],
            )

    def write_scalars(self, scalars, step, timestamp):
        raise NotImplementedError

logger = Store(durable=durable, timeout=2.0)
trainer = Engine(lambda engine, batch: {"loss": 1 / (1 + engine.state.iteration)})
logger.attach(trainer, Events.ITERATION_COMPLETED, OutputHandler("training", output_transform=lambda output: output))
calls = open(folder / f"calls-{os.getpid()}", "w", buffering=1)

@trainer.on(Events.ITERATION_COMPLETED)
def pace():
    time.sleep(0.002)

class Note:
    # After the logger.
    phase = Phase.CHECKPOINT

    def __call__(self, engine):
        calls.write(f"{engine.state.iteration} {time.time()}\\n")

trainer.add_event_handler(Events.ITERATION_COMPLETED, Note())

class Save:
    phase = Phase.CHECKPOINT

    def __call__(self, engine):
        (folder / "new").write_bytes(pickle.dumps(engine.state_dict()))
        (folder / "new").rename(folder / "state")

trainer.add_event_handler(Events.ITERATION_COMPLETED(every=50), Save())

if (folder / "state").exists():
    trainer.load_state_dict(pickle.loads((folder / "state").read_bytes()))
if steps:
    trainer.run(range(100), max_epochs=steps // 100)
else:
    logger.flush()
logger.close()
"""


def start(folder, steps, mode="default"):
    """Start the script."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(steps), mode], stderr=subprocess.PIPE, text=True
    )


def finish(folder, steps, mode="default"):
    """Run the script to its end."""
    process = start(folder, steps, mode)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors


def kill(folder, after, signum):
    """Start an endless run, kill it, and return the steps that were logged with their age at the kill."""
    for calls in folder.glob("calls-*"):
        calls.unlink()
    process = start(folder, 1_000_000)
    try:
        while not any(path.stat().st_size for path in folder.glob("calls-*")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(after)
        killed = time.time()
        process.send_signal(signum)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    (calls,) = folder.glob("calls-*")
    lines = [line.split() for line in calls.read_text().splitlines() if line.count(" ") == 1]
    return {int(step): killed - float(at) for step, at in lines if len(at) > 10}


def stored(folder):
    """Return the runs, and how often each step was stored."""
    with closing(sqlite3.connect(folder / "store.db")) as database:
        runs = {run for (run,) in database.execute("SELECT DISTINCT run FROM points")}
        counts = dict(database.execute("SELECT step, COUNT(*) FROM points GROUP BY name, step"))
    return runs, counts


@pytest.fixture(autouse=True)
def spools(tmp_path, monkeypatch):
    """Let all processes of a test share a state folder."""
    monkeypatch.setenv("GLOWPLUG_HOME", str(tmp_path / "state folder"))


@pytest.mark.parametrize("number", range(125 if IS_CAMPAIGN else 1))
@pytest.mark.parametrize("is_down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("signum", [9, 15], ids=["SIGKILL", "SIGTERM"])
def test_killed(tmp_path, signum, is_down, number):
    """Each point that was logged 0.2 s before the kill is delivered by the next process, with the backend up or down (L2)."""
    after = random.Random(f"{signum}{is_down}{number}").uniform(0.4, 1.5)
    if is_down:
        (tmp_path / "down").touch()
    logged = kill(tmp_path, after, signum)
    (tmp_path / "down").unlink(missing_ok=True)
    finish(tmp_path, 0)
    _, counts = stored(tmp_path)
    # SIGTERM leaves time to save everything. The margin is for a busy machine.
    window = 0.5 if signum == 9 else 0.0
    missing = [step for step, age in logged.items() if age > window and step not in counts]
    assert not missing, f"{len(missing)} of {len(logged)} lost"
    assert set(counts.values()) == {1}


def test_resumed_from_older_checkpoints(tmp_path):
    """Several kills, each followed by a resume from an older state: each step is in one run, once (L3)."""
    moments = random.Random(3)
    cycles = 100 if IS_CAMPAIGN else 3
    for cycle in range(cycles):
        if cycle % 3 == 1:
            (tmp_path / "down").touch()
        logged = kill(tmp_path, moments.uniform(0.4, 1.0), 9)
        (tmp_path / "down").unlink(missing_ok=True)
    steps = max(logged) // 100 * 100 + 200
    finish(tmp_path, steps)
    runs, counts = stored(tmp_path)
    assert len(runs) == 1
    assert counts == dict.fromkeys(range(1, steps + 1), 1)
    (spool,) = (tmp_path / "state folder").rglob("*.spool*")
    assert not read_content(spool).is_waiting


def test_durable(tmp_path):
    """With durable=True, a record is on disk when log_scalars returns."""
    script = f"""
import os, sys
sys.argv = ["", {str(tmp_path)!r}, "0", "durable"]
source = {SCRIPT!r}.replace("logger.flush()", "")
exec(source.split("if (folder / 'state')")[0].split("if (folder / \\"state\\")")[0])
for step in range(1, 101):
    logger.log_scalars({{"training/loss": 1.0}}, step)
os._exit(9)
"""
    (tmp_path / "down").touch()
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 9, ended.stderr
    (tmp_path / "down").unlink()
    (path,) = spools_in(tmp_path / "state folder" / "spool")
    with closing(Spool(path)) as spool:
        assert [record.step for record in spool.read(0, 1_000)] == list(range(1, 101))


def test_sigterm_during_durable_calls(tmp_path):
    """SIGTERM in the middle of a durable log_scalars ends the process at once, after everything was delivered."""
    script = """
import itertools, sys
from glowplug.loggers import Logger

class Store(Logger):
    def write_scalars(self, scalars, step, timestamp):
        with open(sys.argv[1], "a") as file:
            file.write(f"{step}\\n")

logger = Store(durable=True, timeout=20)
for step in itertools.count():
    logger.log_scalars({"a": 1.0}, step)
    print(step, flush=True)
"""
    moments = random.Random(15)
    for cycle in range(4):
        path = tmp_path / f"{cycle}"
        command = [sys.executable, "-c", script, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "0\n"
            time.sleep(moments.uniform(0.1, 0.3))
            process.send_signal(15)
            output, errors = process.communicate(timeout=15)
        finally:
            process.kill()
            process.wait()
        assert (process.returncode, errors) == (-15, "")
        stored_steps = [int(line) for line in path.read_text().splitlines()]
        assert stored_steps == list(range(len(stored_steps)))
        assert stored_steps[-1] >= int(output.split()[-1])


def test_first_record(make_logger, monkeypatch):
    """The first record is saved at once, because opening the spool takes a part of the 0.2 s (L2)."""
    monkeypatch.setattr("glowplug.loggers._queue.INTERVAL", 60)
    logger = make_logger(timeout=1)
    logger.log_params({"lr": 0.1})
    end = time.monotonic() + 10
    while logger._run_spool.spool is None or not logger._run_spool.spool.pending:
        assert time.monotonic() < end
        time.sleep(0.01)
