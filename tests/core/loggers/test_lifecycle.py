"""When loggers flush and close: runs, process exit, pickling, forks and ranks."""

import doctest
import importlib
import inspect
import os
import pickle
import pkgutil
import subprocess
import sys
import textwrap

import pytest

import glowplug.loggers
from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import Counts, Logger
from glowplug.testing import FakeEngine


class Plain(Logger):
    """Logger that can be pickled."""

    def __init__(self):
        super().__init__(capacity=7, timeout=3.0)
        self.rows = []

    def write_scalars(self, scalars, step, timestamp):
        self.rows.append((step, scalars))


def engine_with(logger):
    """Return an engine that logs its iterations."""
    engine = Engine(lambda engine, batch: float(batch))
    logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
    return engine


def fail(engine):
    """Raise an error in the middle of a run."""
    raise OSError("cable pulled")


class TestEndOfRun:
    def test_teardown_flushes(self, logger):
        """After run() all records are written and flushed, and the backend stays open."""
        engine_with(logger).run([1, 2])
        assert [call[0] for call in logger.calls] == ["open", "log_scalars", "log_scalars", "flush"]

    def test_interrupt_flushes(self, logger):
        """After an interrupt all records are with the backend, because the run may not continue."""
        engine = engine_with(logger)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
        engine.run([1, 2, 3])
        assert [call[0] for call in logger.calls] == ["open", "log_scalars", "log_scalars", "flush"]

    def test_nested_run_does_not_flush(self):
        """The end of a nested evaluator run does not flush; the end of the trainer's run does."""
        flushes = []

        class Counting(Plain):
            def flush_backend(self):
                flushes.append(1)

        counting = Counting()
        fake = FakeEngine(parent=FakeEngine())
        counting.attach_output_handler(fake, Events.COMPLETED, "v", metric_names=["a"])
        fake.state.metrics = {"a": 1.0}
        fake.end_run()
        assert flushes == []
        counting.close()
        assert flushes == [1]


class TestOutcome:
    @pytest.mark.parametrize(
        ("action", "outcome"),
        [
            (lambda engine: None, RunOutcome.COMPLETED),
            (lambda engine: engine.terminate(), RunOutcome.TERMINATED),
            (lambda engine: engine.terminate(skip_completed=True), RunOutcome.TERMINATED),
            (lambda engine: engine.interrupt(), RunOutcome.INTERRUPTED),
            (fail, RunOutcome.FAILED),
        ],
        ids=["completed", "terminated", "terminated, COMPLETED skipped", "interrupted", "failed"],
    )
    def test_close_receives_the_outcome(self, logger, action, outcome):
        """close_backend() receives the outcome of the run once, on the worker thread (L-006)."""
        engine = engine_with(logger)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), action)
        try:
            engine.run([1, 2, 3])
        except OSError:
            assert outcome is RunOutcome.FAILED
        logger.close()
        logger.close()
        assert logger.outcomes == [outcome]
        assert len(logger.threads) == 1

    def test_continued_run_is_completed(self, logger):
        """An interrupted run that continues to its end has the outcome COMPLETED."""
        engine = engine_with(logger)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.interrupt)
        engine.run([1, 2])
        engine.run()
        logger.close()
        assert logger.outcomes == [RunOutcome.COMPLETED]

    def test_outcome_is_that_of_the_outermost_engine(self, logger):
        """A completed evaluator inside a trainer that fails does not change the outcome FAILED."""
        trainer, evaluator = engine_with(logger), engine_with(logger)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: evaluator.run([1]))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, fail)
        with pytest.raises(OSError, match="cable pulled"):
            trainer.run([1])
        logger.close()
        assert logger.outcomes == [RunOutcome.FAILED]

    def test_context_manager_closes_with_the_outcome(self, make_logger):
        """Leaving the context closes the logger; an exception outside a run makes the outcome FAILED."""
        fine, failed = make_logger(), make_logger()
        with fine:
            engine_with(fine).run([1])
        failed.log_scalars({"a": 1.0}, 1)
        with pytest.raises(OSError, match="cable pulled"), failed:
            fail(None)
        assert (fine.outcomes, failed.outcomes) == ([RunOutcome.COMPLETED], [RunOutcome.FAILED])

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (SystemExit(), RunOutcome.COMPLETED),
            (SystemExit(0), RunOutcome.COMPLETED),
            (SystemExit(3), RunOutcome.FAILED),
            (SystemExit("no data"), RunOutcome.FAILED),
            (KeyboardInterrupt(), RunOutcome.FAILED),
        ],
        ids=repr,
    )
    def test_context_manager_and_exit(self, make_logger, error, outcome):
        """sys.exit() with success does not make the outcome FAILED; an error code and Ctrl+C do."""
        logger = make_logger()
        engine_with(logger).run([1])
        with pytest.raises(type(error)), logger:
            raise error
        assert logger.outcomes == [outcome]

    def test_explicit_outcome_takes_precedence(self, logger):
        """The argument of close(outcome) takes precedence over the outcome of the run."""
        engine_with(logger).run([1])
        logger.close(RunOutcome.INTERRUPTED)
        assert logger.outcomes == [RunOutcome.INTERRUPTED]


def test_unused_logger_does_not_open_the_backend(make_logger):
    """A logger without records neither opens nor closes its backend."""
    unused = make_logger()
    engine = Engine(lambda engine, batch: batch)
    unused.attach_output_handler(engine, Events.EPOCH_COMPLETED(once=5), "t", metric_names=["a"])
    engine.run([1])
    unused.close()
    assert unused.calls == []


EXIT_SCRIPT = """
import sys
from glowplug import Engine, Events
from glowplug.loggers import Logger

class ToFile(Logger):
    def write_scalars(self, scalars, step, timestamp):
        with open(sys.argv[1], "a") as file:
            file.write(f"{step}\\n")

    def close_backend(self, outcome):
        with open(sys.argv[1], "a") as file:
            file.write(f"closed {outcome and outcome.name}\\n")

class Hangs(ToFile):
    def close_backend(self, outcome):
        import time
        time.sleep(60)

class Raises(ToFile):
    def close_backend(self, outcome):
        raise OSError("no")

others = [Hangs(timeout=0.5), Raises(on_error="raise")]
logger = ToFile()
for other in others:
    other.log_scalars({}, 0)
engine = Engine(lambda engine, batch: batch)
logger.attach(engine, Events.ITERATION_COMPLETED, lambda e, l, _: l.log_scalars({}, e.state.iteration))
"""


LIBRARY_SCRIPT = """
import atexit, time
from glowplug.loggers import Logger

class Library(Logger):
    left = False
    def open_backend(self):
        {before}
        import concurrent.futures.thread
        atexit.register(lambda: setattr(Library, "left", True))
    def write_scalars(self, scalars, step, timestamp):
        print(step, "unloaded" if Library.left else "loaded", flush=True)

logger = Library()
{first}
logger.log_scalars({{}}, 2)
"""


class HoldsItsFile(Logger):
    """Logger that opens a file, which cannot be pickled, and counts how often."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.file = None
        self.opened = 0

    def open_backend(self):
        self.file = self.path.open("a", encoding="utf-8")
        self.opened += 1

    def write_scalars(self, scalars, step, timestamp):
        self.file.write(f"{step}\n")

    def close_backend(self, outcome):
        self.file.close()


class TestPickling:
    def test_attached_logger(self):
        """A pickled logger keeps its options and logs independently."""
        original = Plain()
        original.log_scalars({"a": 1.0}, 1)
        original.flush()
        copy = pickle.loads(pickle.dumps(original))
        copy.log_scalars({"a": 2.0}, 2)
        copy.close()
        original.close()
        assert copy.rows == [(1, {"a": 1.0}), (2, {"a": 2.0})]
        assert original.rows == [(1, {"a": 1.0})]
        assert (copy.timeout, copy.capacity) == (3.0, 7)
        assert copy.counts == Counts(1, 0, 0)

    def test_attributes_of_open_backend(self, tmp_path):
        """A pickled logger omits the open file, reopens it, and keeps other attributes that open_backend() set."""
        original = HoldsItsFile(tmp_path / "log.txt")
        original.log_scalars({}, 1)
        original.flush()
        copy = pickle.loads(pickle.dumps(original))
        assert (copy.file, copy.opened) == (None, 1)
        original.close()
        copy.log_scalars({}, 2)
        copy.close()
        assert copy.opened == 2
        assert original.path.read_text() == "1\n2\n"


class TestProcesses:
    @pytest.mark.parametrize(
        ("ending", "code", "steps", "outcome"),
        [
            ("engine.run([1, 2])", 0, ["1", "2"], "COMPLETED"),
            ("logger.log_scalars({}, 5)", 0, ["5"], "None"),
            ("engine.run([1, 2]); sys.exit(3)", 3, ["1", "2"], "COMPLETED"),
            (
                "engine.add_event_handler(Events.EPOCH_COMPLETED, sys.exit, 4); engine.run([1, 2])",
                4,
                ["1", "2"],
                "FAILED",
            ),
            (
                "engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: 1 / 0); engine.run([1, 2])",
                1,
                ["1", "2"],
                "FAILED",
            ),
            ("engine.run([1, 2]); 1 / 0", 1, ["1", "2"], "FAILED"),
        ],
        ids=[
            "normal end",
            "without a run",
            "sys.exit",
            "sys.exit in a run",
            "uncaught in a run",
            "uncaught after a run",
        ],
    )
    def test_exit_closes_all_loggers(self, tmp_path, ending, code, steps, outcome):
        """At exit each open logger is closed once, even if others hang or raise."""
        path = tmp_path / "log.txt"
        script = tmp_path / "script.py"
        script.write_text(EXIT_SCRIPT + ending + "\n")
        ended = subprocess.run(
            [sys.executable, script, path], timeout=60, capture_output=True, text=True, check=False
        )
        assert ended.returncode == code, ended.stderr
        assert [line for line in path.read_text().splitlines() if line != "0"] == [
            *steps,
            f"closed {outcome}",
        ]

    @pytest.mark.parametrize(
        ("before", "first", "printed"),
        [
            ("pass", "logger.log_scalars({}, 1); logger.flush()", "1 loaded\n2 loaded\n"),
            ("time.sleep(0.5)", "pass", "2 loaded\n"),
        ],
        ids=["opened before", "opened during exit"],
    )
    def test_library_with_an_exit_hook(self, before, first, printed):
        """Records reach a backend library before its exit hook runs, even if it is imported late."""
        script = LIBRARY_SCRIPT.format(before=before, first=first)
        ended = subprocess.run(
            [sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False
        )
        assert (ended.stdout, ended.stderr) == (printed, "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork() is not available")
    def test_forked_process_neither_writes_nor_waits(self, tmp_path):
        """A forked child drops its records, does not close the parent's backend, and exits at once."""
        path = tmp_path / "log.txt"
        script = tmp_path / "script.py"
        script.write_text(
            EXIT_SCRIPT.replace('others = [Hangs(timeout=0.5), Raises(on_error="raise")]', "others = []")
            + textwrap.dedent("""
            import os, time
            engine.run([1])
            began = time.monotonic()
            child = os.fork()
            logger.log_scalars({}, 2 if child else 1000)
            if child:
                assert os.waitpid(child, 0)[1] == 0
                assert time.monotonic() - began < 5
        """)
        )
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", script, path],
            timeout=60,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert path.read_text().splitlines() == ["1", "2", "closed COMPLETED"]
        assert "in a forked process; log in the process that created the logger" in ended.stderr

    def test_only_rank_zero_writes(self, run_ranks, tmp_path):
        """Of two ranks only rank 0 writes, unless all_ranks=True is given (L-007)."""
        pytest.importorskip("torch")

        def log_on(rank):
            from glowplug import Engine, Events
            from glowplug.loggers import Logger

            rows, refused = {False: [], True: []}, []

            class Listed(Logger):
                def write_scalars(self, scalars, step, timestamp):
                    rows[self.all_ranks].append(step)

            for all_ranks in rows:
                listed = Listed(all_ranks=all_ranks)
                engine = Engine(lambda engine, batch: batch)
                listed.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
                engine.run([1, 2])
                listed.log_scalars({"direct": 1.0}, 9)
                try:
                    listed.ensure_open()
                except RuntimeError as error:
                    refused.append(str(error).split(";")[0])
                listed.close()
            return [rows[False], rows[True], refused]

        first, second = run_ranks(log_on)
        assert first == [[1, 2, 9], [1, 2, 9], []]
        assert second == [[], [1, 2, 9], ["Listed logs on rank 0 only, and this is rank 1"]]


def test_loggers_are_imported_without_torch():
    """Importing glowplug.loggers and logging plain numbers does not import torch."""
    code = "import sys; from glowplug.loggers import *; print('torch' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], timeout=60, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "False\n"


@pytest.mark.parametrize(
    "name",
    [
        "glowplug.loggers",
        *(m.name for m in pkgutil.iter_modules(glowplug.loggers.__path__, "glowplug.loggers.")),
    ],
)
def test_docstring_examples(name):
    """The examples in the docstrings run."""
    module = importlib.import_module(name)
    if ">>> import torch" in inspect.getsource(module):
        pytest.importorskip("torch", reason="an example needs torch")
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timeout": None}, TypeError, "timeout must be a number of seconds, got None"),
        ({"timeout": "10"}, TypeError, "timeout must be a number of seconds, got '10'"),
        ({"timeout": -1}, ValueError, r"timeout must be between 0 and \d+ seconds, got -1"),
        ({"timeout": float("nan")}, ValueError, "got nan"),
        ({"timeout": float("inf")}, ValueError, "got inf"),
        *(
            (options, error, message)
            for name in ("capacity", "memory_limit", "spool_limit")
            for options, error, message in (
                ({name: None}, TypeError, f"{name} must be an integer, got None"),
                ({name: 1e9}, TypeError, f"{name} must be an integer, got 1000000000.0"),
                ({name: True}, TypeError, f"{name} must be an integer, got True"),
                ({name: 0}, ValueError, f"{name} must be at least 1, got 0"),
            )
        ),
    ],
)
def test_wrong_options(make_logger, options, error, message):
    """An option with a wrong value is refused when the logger is created, not at the first record or at the end."""
    with pytest.raises(error, match=message):
        make_logger(**options)


@pytest.mark.parametrize("method", ["open_backend", "write_scalars", "write_text", "close_backend"])
def test_async_method(method):
    """A logger with an async method is refused when it is created: its records would count as sent, but reach no backend."""

    async def deferred(self, *_):
        raise AssertionError("never runs")

    class Printer(Logger):
        def write_scalars(self, scalars, step, timestamp): ...

    setattr(Printer, method, deferred)
    with pytest.raises(TypeError, match=rf"Printer\.{method} is an async function"):
        Printer()


def test_outcome_is_saved_before_close_times_out(tmp_path):
    """If close() times out, the spool knows how the run ended, for the process that delivers the records (L5)."""
    import threading

    from glowplug.loggers import Logger, Spool, spools_in

    ended = threading.Event()

    class Slow(Logger):
        def write_scalars(self, scalars, step, timestamp):
            ended.wait(30)

    logger = Slow(spool=tmp_path, timeout=0.5)
    logger.log_scalars({"a": 1.0}, 1)
    logger._delivery.save()
    logger.close(RunOutcome.FAILED)
    try:
        (path,) = spools_in(tmp_path)
        assert logger._run_spool.spool.path == path
        assert isinstance(logger._run_spool.spool, Spool)
        assert logger._run_spool.spool.about["outcome"] == RunOutcome.FAILED.value
    finally:
        ended.set()
