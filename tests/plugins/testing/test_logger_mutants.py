"""Mutants of a logger: each fails its check, and the correct loggers pass all checks."""

import importlib.util
import json
import threading
import time

import pytest

from glowplug_testing import LoggerCase, LoggerContract, checks as kit
from glowplug_testing.check_lists import LOGGER_CHECKS

from .mutants import loggers

CHECKS = {check.name: check for check in LOGGER_CHECKS}
NEED_TORCH = {"only_rank_zero_writes"}


def case_of(kind, folder, opened=()):
    """Return the case of a logger that writes JSON lines; ``opened`` collects the borrowed files."""
    path, given = folder / "run.jsonl", folder / "given.jsonl"

    def read():
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def borrowed():
        stream = given.open("a", encoding="utf-8")
        opened.append(stream)
        return kind(given, stream=stream), lambda: not stream.closed

    return LoggerCase(
        make=lambda **options: kind(path, **options),
        read=read,
        borrowed=borrowed if issubclass(kind, loggers.KeepsFileOpen) else None,
    )


class TestJsonLines(LoggerContract):
    @pytest.fixture
    def case(self, tmp_path):
        """Return the case of a minimal logger."""
        return case_of(loggers.JsonLines, tmp_path)


class TestKeepsFileOpen(LoggerContract):
    @pytest.fixture
    def case(self, tmp_path):
        """Return the case of a logger with all methods."""
        opened = []
        yield case_of(loggers.KeepsFileOpen, tmp_path, opened)
        for stream in opened:
            stream.close()


MUTANTS = {
    "LosesTheLastBatch": "scalars_are_stored_in_order",
    "WritesAtCloseOnly": "scalars_are_stored_after_flush",
    "SortsByStep": "scalars_are_stored_in_order",
    "SharesItsFile": "two_loggers_are_independent",
    "DropsStepZero": "scalars_are_stored_in_order",
    "DropsZeros": "scalars_are_stored_in_order",
    "SkipsRepeats": "scalars_are_stored_in_order",
    "KeepsTheFirst": "scalars_are_stored_in_order",
    "Rounds": "scalars_are_stored_in_order",
    "CountsItsOwnSteps": "scalars_are_stored_in_order",
    "WritesTwice": "scalars_are_stored_at_the_end_of_a_run",
    "ReplacesCharacters": "odd_names_stay_distinct",
    "CutsNames": "odd_names_stay_distinct",
    "DropsNaN": "non_finite_values_are_kept",
    "MakesNaNZero": "non_finite_values_are_kept",
    "AcceptsFlatParamsOnly": "every_write_method_works",
    "OpensInTheConstructor": "constructor_opens_nothing",
    "WaitsInTheConstructor": "constructor_opens_nothing",
    "NeedsItsBackendAtAttach": "backend_down_from_the_start",
    "CatchesItsErrors": "full_disk_does_not_end_the_run",
    "TruncatesWhenOpened": "connection_lost_in_a_write",
    "RewritesWhenOpened": "connection_lost_in_a_write",
    "GivesUpAfterAnError": "full_disk_does_not_end_the_run",
    "RaisesAtClose": "error_at_close",
    "Blocks": "slow_backend_does_not_block",
    "SleepsALittle": "slow_backend_does_not_block",
    "IgnoresOpenErrors": "no_files_or_connections_do_not_end_the_run",
    "FailsToCloseAfterAFailure": "close_receives_the_outcome",
    "ClosesOnlyAfterRuns": "healthy_run_is_quiet",
    "IgnoresFilters": "attach_accepts_all_arguments",
    "AcceptsNoFurtherArguments": "attach_accepts_all_arguments",
    "AttachesTheOutputTwice": "attach_accepts_all_arguments",
    "SwallowsInItsBlock": "exceptions_reach_the_caller",
    "ClosesAfterAFailure": "exceptions_reach_the_caller",
    "WritesDirectly": "slow_backend_does_not_block",
    "FlushHasNoTimeout": "hanging_backend_times_out",
    "IgnoresOnError": "on_error_raise_raises",
    "CountsLostAsSent": "occasional_errors_lose_one_record",
    "LogsTwiceOnResume": "resumed_run_logs_each_step_once",
    "LogsTheLastAgain": "works_on_fake_engine_and_engine",
    "LogsAnInterruptedStepAgain": "interrupted_run_logs_each_step_once",
    "ClosesAfterTheRun": "one_logger_serves_several_engines",
    "SwallowsExceptions": "exceptions_reach_the_caller",
    "LeavesARegistration": "handle_removes_all",
    "ReturnsNoHandle": "handle_removes_all",
    "IgnoresTheEngine": "one_logger_serves_several_engines",
    "NeedsTheRealEngine": "works_on_fake_engine_and_engine",
    "AcceptsSwappedArguments": "old_argument_order_is_refused",
    "RunsTooEarly": "logs_after_the_other_handlers",
    "IsAPlainFunction": "logs_after_the_other_handlers",
    "MutatesTheOutput": "run_state_is_unchanged",
    "ClearsTheMetrics": "run_state_is_unchanged",
    "StopsTheRun": "run_state_is_unchanged",
    "LogsAtItsOwnStep": "evaluator_logs_at_the_trainers_step",
    "OmitsTheOutcome": "close_receives_the_outcome",
    "CloseTakesNoOutcome": "healthy_run_is_quiet",
    "ClosesWhatItBorrowed": "borrowed_run_stays_open",
    "LogsOnEveryRank": "only_rank_zero_writes",
    "IgnoresItsOptions": "options_are_passed_on",
    "AcceptsNoOptions": "options_are_passed_on",
    "OmitsSuperInit": "options_are_passed_on",
    "IsNoLogger": "options_are_passed_on",
    "CannotBePickled": "pickled_logger_works",
    "LosesItsPathInACopy": "pickled_logger_works",
    "Prints": "process_is_unchanged",
    "ConfiguresLogging": "process_is_unchanged",
    "CatchesSignals": "process_is_unchanged",
    "DrawsNumbers": "process_is_unchanged",
    "ChangesTheDirectory": "process_is_unchanged",
    "LeavesAThread": "process_is_unchanged",
}


@pytest.mark.parametrize(("mutant", "check"), MUTANTS.items())
def test_mutants_are_caught(mutant, check, tmp_path, monkeypatch):
    """A mutant fails the check of its fault, with a message from the check."""
    if check in NEED_TORCH and importlib.util.find_spec("torch") is None:
        pytest.skip("two ranks need torch")
    monkeypatch.setattr(kit, "SECONDS", 3.0)
    opened = []
    result = kit.run_check(CHECKS[check], case_of(getattr(loggers, mutant), tmp_path, opened))
    for stream in opened:
        stream.close()
    assert result.status == "failed", result
    assert "/glowplug_testing/" not in result.message.partition("\n")[0]


def test_all_mutants_are_in_the_table():
    """Every mutant is in the table."""
    mutants = {
        name for name, kind in vars(loggers).items() if getattr(kind, "__module__", "") == loggers.__name__
    }
    assert mutants - {"JsonLines", "KeepsFileOpen"} == set(MUTANTS) | {
        n for n in mutants if n.startswith("_")
    }


def test_heavy_plugin_module_is_caught(tmp_path, monkeypatch):
    """A plugin module that imports a library fails, even if this process has imported the library."""
    package = tmp_path / "acme_heavy"
    package.mkdir()
    (tmp_path / "acme_sdk.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "_plugin.py").write_text("GLOWPLUG_API = 1\nimport acme_sdk\n")
    (package / "light.py").write_text("GLOWPLUG_API = 1\nimport json\n")
    (package / "without.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = CHECKS["plugin_module_is_light"]

    def result(plugin, **more):
        return kit.run_check(check, LoggerCase(make=list, read=list, plugin=plugin, **more))

    assert "imports acme_sdk" in result("acme_heavy._plugin").message
    assert result("acme_heavy.light").status == "passed"
    assert "imports json" in result("acme_heavy.light", heavy=["json"]).message
    assert "GLOWPLUG_API = 1" in result("acme_heavy.without").message
    assert "No module named 'acme_nothing'" in result("acme_nothing._plugin").message


@pytest.fixture(autouse=True)
def threads_end():
    """Wait for the threads of a mutant, because the next test counts threads."""
    yield
    limit = time.monotonic() + 5
    while any(t.name == "acme keep-alive" for t in threading.enumerate()) and time.monotonic() < limit:
        time.sleep(0.05)
