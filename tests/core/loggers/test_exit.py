"""The end of the process reaches the backend with a true status, and the process ends as it would without loggers."""

import signal
import subprocess
import sys
import textwrap

import pytest

LOGGER = """
import os, signal, sys, time
from pathlib import Path
from glowplug import Engine, Events
from glowplug.loggers import Logger, OutputHandler

class File(Logger):
    def __init__(self, path, delay=0.0, **options):
        super().__init__(**options)
        self.path, self.delay = path, delay

    def write_scalars(self, scalars, step, timestamp):
        time.sleep(self.delay)
        self.write(f"{step}")

    def close_backend(self, outcome):
        self.write(f"{outcome and outcome.value}")

    def write(self, line):
        with open(self.path, "a") as file:
            file.write(line + "\\n")

def attach(engine, logger):
    logger.attach(engine, Events.ITERATION_COMPLETED, OutputHandler("training", output_transform=lambda x: x))

logger = File(sys.argv[1])
trainer = Engine(lambda engine, batch: float(batch))
attach(trainer, logger)
"""


@pytest.fixture
def run(tmp_path):
    """Run a script after LOGGER; return its exit code and the lines that the backend got."""

    def run(script, signum=None):
        backend = tmp_path / "backend"
        source = LOGGER + textwrap.dedent(script)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", source, str(backend)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            if signum is not None:
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signum)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        return process.returncode, backend.read_text().split(), errors

    return run


RUN = "trainer.run([1, 2, 3])"
ENDLESS = """
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: print("ready", flush=True))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(after=3), lambda: time.sleep(0.05))
    trainer.run(range(1_000))
"""


@pytest.mark.parametrize(
    ("script", "code", "status"),
    [
        (RUN, 0, "completed"),
        (f"{RUN}\nraise ValueError('after the run')", 1, "failed"),
        (f"{RUN}\nsys.exit(3)", 3, "completed"),
        ("trainer.run([1, 2, 3, 'x'])", 1, "failed"),
        (
            "trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.interrupt)\n" + RUN,
            0,
            "interrupted",
        ),
        (
            "trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.terminate)\n" + RUN,
            0,
            "terminated",
        ),
        (f"{RUN}\nlogger.close()\nraise ValueError('after close')", 1, "completed"),
        ("logger.log_scalars({'loss': 1.0}, 1)", 0, "None"),
        ("logger.log_scalars({'loss': 1.0}, 1)\nraise ValueError", 1, "failed"),
    ],
    ids=[
        "end",
        "exception",
        "exit",
        "failed run",
        "interrupted",
        "terminated",
        "closed",
        "no run",
        "no run, exception",
    ],
)
def test_status(run, script, code, status):
    """The backend learns how the run or the script ended, and the exit code is that of the script (L5)."""
    found_code, lines, errors = run(script)
    assert (found_code, lines[-1]) == (code, status), errors


def test_sigterm(run):
    """SIGTERM delivers the records, ends the run as interrupted and then ends the process by the signal (L5)."""
    code, lines, errors = run(ENDLESS, signal.SIGTERM)
    assert (code, lines[:2], lines[-1]) == (-signal.SIGTERM, ["1", "2"], "interrupted"), errors


def test_own_handler(run):
    """A script that handles SIGTERM keeps its handler."""
    script = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nlogger = File(sys.argv[1])\nattach(trainer, logger)\n"
    code, _, _ = run(script + textwrap.dedent(ENDLESS), signal.SIGTERM)
    assert code == 7


def test_handler_is_removed(run):
    """After the last logger was closed, SIGTERM has its default effect again."""
    script = """
        other = File(sys.argv[1] + "-other")
        logger.close()
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        other.close()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    """
    code, _, errors = run("logger.log_scalars({'loss': 1.0}, 1)\n" + textwrap.dedent(script))
    assert code == 0, errors


def test_unused_logger(run):
    """A logger that is discarded without being used leaves SIGTERM its default effect."""
    script = """
        import gc
        logger.log_scalars({"loss": 1.0}, 1)
        logger.close()
        unused = File(sys.argv[1] + "-other")
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        del unused
        gc.collect()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    """
    code, _, errors = run(script)
    assert code == 0, errors


def test_several_engines(run):
    """If one of several engines failed, the run failed, whichever ended last (L5)."""
    script = """
        other = Engine(lambda engine, batch: float(batch))
        attach(other, logger)
        try:
            other.run(["x"])
        except ValueError:
            pass
        trainer.run([1, 2, 3])
    """
    assert run(script)[1][-1] == "failed"
    recovered = script.replace("trainer.run([1, 2, 3])", "trainer.run([1]); other.run([1])")
    (_, lines, _) = run(recovered)
    assert lines[-1] == "completed"


def test_fork(run):
    """A forked process leaves the parent's records and files alone, and ends with its own exit code."""
    script = """
        logger.log_scalars({"loss": 1.0}, 1)
        logger.flush()
        logger.log_scalars({"loss": 1.0}, 2)
        child = os.fork()
        if child == 0:
            sys.exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    """
    code, lines, errors = run(script)
    assert (code, lines) == (0, ["1", "2", "None"]), errors


@pytest.mark.parametrize("code", [0, 3])
def test_native_code(run, code):
    """A process that ends while the worker is in native code ends with its own exit code."""
    pytest.importorskip("torch")
    script = f"""
        import torch

        class Busy(File):
            def write_scalars(self, scalars, step, timestamp):
                self.write("started")
                while True:
                    torch.ones(300, 300) @ torch.ones(300, 300)

        busy = Busy(sys.argv[1], timeout=0.3)
        busy.log_scalars({{"loss": 1.0}}, 1)
        time.sleep(0.5)
        sys.exit({code})
    """
    for _ in range(3):
        found, lines, errors = run(script)
        assert "started" in lines
        assert found == code, errors


def test_sigterm_during_close(run):
    """SIGTERM during close() ends the process after everything is delivered."""
    script = """
        logger = File(sys.argv[1], delay=0.2)
        logger.uses_spool = False
        attach(trainer, logger)
        trainer.add_event_handler(Events.STARTED, lambda: print("ready", flush=True))
        for step in range(6):
            logger.log_scalars({"x": 1.0}, step)
        print("ready", flush=True)
        logger.close()
    """
    code, lines, errors = run(script, signal.SIGTERM)
    assert (code, lines[:6]) == (-signal.SIGTERM, [str(step) for step in range(6)]), errors


def test_sigterm_at_the_start_of_close(run):
    """SIGTERM that arrives before close() waits for the worker does not lose the records either."""
    script = """
        logger = File(sys.argv[1])
        logger.uses_spool = False
        logger.log_scalars({"x": 1.0}, 1)
        note_outcome = logger._run_spool.note_outcome

        def interrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            note_outcome()

        logger._run_spool.note_outcome = interrupted
        File.write_scalars = lambda self, scalars, step, timestamp: (time.sleep(0.5), self.write(f"{step}"))
        logger.close()
    """
    code, lines, errors = run(script)
    assert (code, lines[:1]) == (-signal.SIGTERM, ["1"]), errors


@pytest.mark.parametrize(("records", "is_reported"), [(0, False), (1, True)])
def test_incomplete_logger(tmp_path, records, is_reported):
    """A logger that cannot be closed is reported unless it has no records, as after an error in its constructor."""
    script = f"""
from glowplug.loggers import Logger

class Broken(Logger):
    uses_spool = False

    def __init__(self):
        super().__init__()
        for step in range({records}):
            self.log_scalars({{"a": 1.0}}, step)
        self.client = open({str(tmp_path / "missing")!r})

    def write_scalars(self, scalars, step, timestamp):
        pass

    def close(self, outcome=None):
        self.client.close()
        super().close(outcome)

Broken()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert "FileNotFoundError" in done.stderr
    assert ("Broken could not be closed" in done.stderr) == is_reported
