"""glowplug-testing: check functions, contracts, expected failures, FlakyBackend and fixtures."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from glowplug import Engine, Events
from glowplug.exceptions import PluginLoadError
from glowplug.handlers import create
from glowplug.hookspecs import Offer
from glowplug.loggers import Counts
from glowplug.loggers._exit import open_loggers
from glowplug_testing import (
    CheckFailed,
    FlakyBackend,
    HandlerCase,
    HandlerContract,
    LoggerCase,
    LoggerContract,
    check_handler,
    check_lists,
    check_logger,
    check_metric,
    check_save_handler,
)
from glowplug_testing.checks import Check, CheckSkipped, Result, run_check
from glowplug_testing.logger_run_checks import process_is_unchanged
from glowplug_testing.time_limit import TooSlowError, time_limit

from .mutants import handlers, loggers

CASE = HandlerCase(make=handlers.Best, metrics={"accuracy": 0.5})


# Without pytest


def test_check_handler_runs_all_checks():
    """check_handler returns a result for each check, and a correct handler passes all."""
    results = check_handler(CASE)
    assert [result.name for result in results] == [check.name for check in check_lists.HANDLER_CHECKS]
    assert {result.status for result in results} <= {"passed", "skipped"}


def test_check_handler_accepts_classes_functions_and_objects():
    """check_handler calls a class or function for each handler and copies an object."""

    class Counting:
        made = 0

        def __init__(self):
            Counting.made += 1

        def attach(self, engine):
            return engine.add_event_handler(Events.STARTED, self)

        def __call__(self, engine):
            """Do nothing."""

    def make():
        return Counting()

    check_handler(Counting)
    by_class, Counting.made = Counting.made, 0
    check_handler(make)
    assert by_class == Counting.made > 10
    handler = Counting()
    before = Counting.made
    check_handler(handler)
    assert Counting.made == before


def test_check_handler_reports_all_failures():
    """CheckFailed lists all failed checks by name."""
    case = HandlerCase(make=handlers.PhaseIsAString, attach=lambda handler, engine: None)
    with pytest.raises(
        CheckFailed, match=r"(?s)\d+ of 22 checks failed:.*handle_removes_all.*phase_is_a_phase: failed"
    ):
        check_handler(case)


def test_expected_failures_of_check_handler():
    """An expected failure passes; a passing check, an empty reason or an unknown name is an error."""
    case = HandlerCase(make=handlers.PhaseIsAString, metrics={"accuracy": 0.5})
    results = check_handler(case, {"phase_is_a_phase": "it is historical"})
    (expected,) = [result for result in results if result.status == "failed as expected"]
    assert expected.message.startswith("it is historical (phase must be a member")
    with pytest.raises(
        CheckFailed, match=r"phase_is_a_phase: .*expected to fail \(it is historical\); remove it"
    ):
        check_handler(CASE, {"phase_is_a_phase": "it is historical"})
    with pytest.raises(ValueError, match=r"expected_failures\['phase_is_a_phase'\] must be the reason"):
        check_handler(CASE, {"phase_is_a_phase": " "})
    with pytest.raises(
        ValueError, match=r"unknown check 'test_phase_is_phase'; did you mean phase_is_a_phase"
    ):
        check_handler(CASE, {"test_phase_is_phase": "it is historical"})


@pytest.fixture
def logger_case(tmp_path):
    """Loggers that write to one file."""
    path = tmp_path / "run.jsonl"
    return LoggerCase(
        make=lambda **options: loggers.JsonLines(path, **options),
        read=lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()],
    )


def test_check_logger_runs_all_checks_on_one_file(logger_case):
    """All checks of a logger can write to the same file."""
    results = check_logger(logger_case)
    assert len(results) == len(check_lists.LOGGER_CHECKS)


def test_handler_of_a_discarded_logger(logger_case, tmp_path):
    """The handler of SIGTERM that an unclosed logger of another test leaves is no fault of the logger under test."""
    unclosed = loggers.JsonLines(tmp_path / "unclosed.jsonl")
    assert unclosed in open_loggers
    # This is what remains if a thread other than the main one collects the logger, and those of earlier tests.
    open_loggers.clear()
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    process_is_unchanged(logger_case)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("check", [check_logger, check_metric, check_save_handler])
def test_check_functions_require_their_case(check):
    """An argument that is not a case is refused with the type of the case."""
    with pytest.raises(
        TypeError, match=r"must be a (Logger|Metric|SaveHandler)Case\(make=...\), got <object"
    ):
        check(object())


# As pytest classes

PROJECT = """
import pytest
from glowplug import Events
from glowplug_testing import HandlerCase, HandlerContract

pytest_plugins = "glowplug.testing.pytest_plugin"

class Shout:
    phase = "late"
    def attach(self, engine):
        return engine.add_event_handler(Events.EPOCH_COMPLETED, self)
    def __call__(self, engine):
        print("epoch", engine.state.epoch)

class TestShout(HandlerContract):
    expected_failures = {"phase_is_a_phase": "historical", "attach_fires_nothing": "it might"}
    @pytest.fixture
    def case(self):
        return HandlerCase(make=Shout)

class TestNothing(HandlerContract):
    pass

class TestSomethingElse(HandlerContract):
    @pytest.fixture
    def case(self):
        return Shout

def test_fixture(fake_engine):
    Shout().attach(fake_engine)
    assert fake_engine.fire(Events.EPOCH_COMPLETED, epoch=2).fired == [Events.EPOCH_COMPLETED]
"""


def test_messages_in_a_project_of_a_plugin_author(tmp_path):
    """Pytest reports failed checks as plain messages with problem and remedy."""
    (tmp_path / "test_shout.py").write_text(PROJECT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path),
         "-k", "Shout or test_fixture or test_phase_is_a_phase"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    out = done.stdout
    assert "PASSED test_shout.py::TestShout::test_handle_removes_all" in out
    assert "PASSED test_shout.py::test_fixture" in out
    assert "XFAIL test_shout.py::TestShout::test_phase_is_a_phase - historical" in out
    assert "FAILED test_shout.py::TestShout::test_attach_fires_nothing" in out
    assert "the check passes but is expected to fail (it might); remove it from expected_failures" in out
    assert "prints 'epoch 1\\nepoch 2'; use the logging module, or add an option for the output file" in out
    assert "TestNothing needs a fixture that returns the case to check" in out
    assert "return HandlerCase(make=...)" in out
    assert "the fixture 'case' of TestSomethingElse must return a HandlerCase, got <class" in out


@pytest.mark.parametrize("file", ["conftest.py", "test_shout.py"])
def test_pytest_plugins_gives_no_warning(tmp_path, file):
    """A project that names the plugin in ``pytest_plugins`` gets no PytestAssertRewriteWarning."""
    (tmp_path / "test_shout.py").write_text("def test_fixture(fake_engine):\n    pass\n")
    with (tmp_path / file).open("a") as source:
        source.write('pytest_plugins = "glowplug.testing.pytest_plugin"\n')
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "."],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].startswith("1 passed in"), done.stdout


def test_overriding_a_check_is_an_error():
    """A subclass that replaces a check is refused; additional tests are accepted."""
    with pytest.raises(
        TypeError,
        match=r"TestMine must not replace test_phase_is_a_phase.*expected_failures = \{'phase_is_a_phase'",
    ):

        class TestMine(HandlerContract):
            def test_phase_is_a_phase(self):
                """Pass."""

    class Mixin:
        test_phase_is_a_phase = None

    with pytest.raises(TypeError, match="TestOther must not replace test_phase_is_a_phase"):

        class TestOther(Mixin, HandlerContract):
            pass

    with pytest.raises(
        ValueError, match=r"TestThird: expected_failures\['phase_is_a_phase'\] must be the reason"
    ):

        class TestThird(HandlerContract):
            expected_failures = {"phase_is_a_phase": ""}

    class TestFourth(HandlerContract):
        def test_additional(self):
            """Pass."""

    assert not issubclass(TestFourth, LoggerContract)


@pytest.mark.parametrize("name", ["HANDLER_CHECKS", "LOGGER_CHECKS", "METRIC_CHECKS", "SAVE_HANDLER_CHECKS"])
def test_checks_have_names_and_purposes(name):
    """Each check has a unique name and a purpose of one sentence."""
    checks = getattr(check_lists, name)
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        # A purpose begins with a capital letter or a call, such as "close()".
        assert check.purpose[0].isupper() or re.match(r"[\w.]+\(", check.purpose), check.name
        assert check.purpose.endswith(".")


def test_run_check_reports_errors_and_skips():
    """run_check reports exceptions with their traceback and skips with their reason."""

    def fails(case):
        return case.missing

    def skips(case):
        raise CheckSkipped("not here")

    result = run_check(Check("fails", "It holds.", fails), 5)
    assert result.status == "failed"
    assert "the check raised AttributeError: 'int' object has no attribute 'missing'" in result.message
    assert "return case.missing" in result.message
    skipped = run_check(Check("skips", "It holds.", skips), 5)
    assert str(skipped) == "skips: skipped: not here"
    assert str(Result("a", "passed")) == "a: passed"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer here")
def test_time_limit_ends_a_wait_and_restores_timers():
    """time_limit ends a wait for a lock, then restores the running timer and the signal handler."""
    rang = []
    former = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(TooSlowError, match=r"exceeded its limit of 0\.05 s"), time_limit(0.05):
            threading.Event().wait(10)
        assert not rang
        time.sleep(0.5)
        assert rang
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


# FlakyBackend


def test_flaky_backend_refuses_unknown_methods(tmp_path):
    """A misspelt method would never fail, so it is refused with the closest name."""
    with pytest.raises(ValueError, match=r"'close' is not a method .* Did you mean 'close_backend'"):
        FlakyBackend.hanging(loggers.JsonLines(tmp_path / "log"), "close")


def test_flaky_backend_restores_the_class(tmp_path):
    """FlakyBackend restores the methods of the class and does not affect other loggers."""
    before = dict(vars(loggers.JsonLines))
    first, second = (loggers.JsonLines(tmp_path / name, timeout=5) for name in ("first", "second"))
    with FlakyBackend.refusing(first):
        first.log_scalars({"a": 1.0}, 1)
        second.log_scalars({"a": 1.0}, 1)
        assert second.flush()
        assert not first.flush()
    assert dict(vars(loggers.JsonLines)) == before
    assert first.flush()
    assert first.counts == second.counts == Counts(1, 0, 0)
    first.close()
    second.close()


def test_flaky_backend_counts_calls_and_faults(tmp_path):
    """FlakyBackend records calls with their threads and injects ``times`` faults."""
    logger = loggers.JsonLines(tmp_path / "log", timeout=5)
    with FlakyBackend(
        logger, fault=lambda: (_ for _ in ()).throw(OSError("no")), every=2, times=1
    ) as backend:
        for step in range(5):
            logger.log_scalars({"a": 1.0}, step)
            logger.flush()
        assert backend.faults == 1
        assert [call.args[1] for call in backend.calls_of("write_scalars")] == [0, 1, 2, 3, 4]
        assert {call.thread for call in backend.calls} != {threading.get_ident()}
        logger.close()
    assert logger.counts == Counts(4, 1, 0)


def test_flaky_backend_counts_nested_writes_once(tmp_path):
    """A write method that calls another counts as one call."""

    class Batching(loggers.JsonLines):
        def write_scalars_batch(self, rows):
            for row in rows:
                type(self).write_scalars(self, *row)

    logger = Batching(tmp_path / "log", timeout=5)
    with FlakyBackend.watching(logger) as backend:
        logger.log_scalars({"a": 1.0}, 1)
        logger.close()
    assert [call.method for call in backend.calls] == [
        "open_backend",
        "write_scalars_batch",
        "flush_backend",
        "close_backend",
    ]


# Fixtures


def test_plugin_manager_refuses_discovery(plugin_manager, monkeypatch):
    """The fixture plugin_manager contains only plugins that the test registers."""
    import types

    assert plugin_manager.names("handler") == []
    module, home = types.ModuleType("acme_best._plugin"), types.ModuleType("acme_best.handler")
    module.GLOWPLUG_API = 1
    module.glowplug_offers = lambda: [Offer(name="Best", target="acme_best.handler:Best")]
    home.Best = handlers.Best
    monkeypatch.setitem(sys.modules, "acme_best.handler", home)
    plugin = plugin_manager.register(module)
    assert (plugin.name, [offer.name for offer in plugin.offers]) == ("acme-best", ["Best"])
    assert isinstance(create("Best", state_key="mine"), handlers.Best)
    faulty = types.ModuleType("acme_faulty._plugin")
    with pytest.raises(PluginLoadError, match="GLOWPLUG_API"):
        plugin_manager.register(faulty)
    assert plugin_manager.names("handler") == ["Best"]


def test_plugin_manager_is_reset(plugin_manager):
    """Plugins registered in one test do not exist in the next."""
    assert plugin_manager.names("handler") == []
    assert "acme_best._plugin" not in sys.modules


def test_fake_engine_fixture(fake_engine):
    """The fixture fake_engine is a new FakeEngine."""
    assert fake_engine.fired == []


def test_the_kit_needs_pytest_for_its_classes_only():
    """Cases, check functions and FlakyBackend can be imported without pytest."""
    script = textwrap.dedent("""
        import sys
        sys.modules["pytest"] = None
        from glowplug_testing import FlakyBackend, HandlerCase, LoggerCase, check_handler
        from glowplug import Events
        class Shout:
            def attach(self, engine): return engine.add_event_handler(Events.STARTED, self)
            def __call__(self, engine): pass
        print(len(check_handler(Shout)))
    """)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ,
    )
    assert done.stdout.strip() == str(len(check_lists.HANDLER_CHECKS)), done.stderr


def test_play_fires_the_events_of_a_run():
    """``play`` fires the same events on a fake as ``run`` on an engine."""
    from glowplug.testing import FakeEngine
    from glowplug_testing.engine_play import play

    real, fired = Engine(lambda engine, batch: batch), []
    for event in Events:
        real.add_event_handler(event, lambda *_, name=event: fired.append(name))
    real.run([1, 2], max_epochs=2)
    fake = play(FakeEngine(), [1, 2], {})
    assert fake.fired == fired
    assert (fake.state.iteration, fake.state.epoch, fake.state.outcome) == (4, 2, real.state.outcome)
