"""Mutants of a handler: each fails its check, and the correct handler passes all checks."""

import importlib.util

import pytest

from glowplug_testing import HandlerCase, HandlerContract, checks as kit
from glowplug_testing.check_lists import HANDLER_CHECKS

from .mutants import handlers

CHECKS = {check.name: check for check in HANDLER_CHECKS}
NEED_TORCH = {"constructor_waits_for_no_rank", "two_ranks_end_together"}


def case_of(kind):
    """Return the case of a handler that reads a metric."""
    return HandlerCase(make=kind, output={"loss": 0.5}, metrics={"accuracy": 0.75})


class TestBest(HandlerContract):
    @pytest.fixture
    def case(self):
        """Return the case of the correct handler."""
        return case_of(handlers.Best)


MUTANTS = {
    "ReturnsNothing": "can_be_attached_or_called",
    "NamesItEvent": "attach_accepts_event_name",
    "IgnoresTheEvent": "attach_accepts_event_name",
    "LeavesARegistration": "handle_removes_all",
    "LeavesItsState": "handle_removes_all",
    "RegistersInARun": "handle_removes_all",
    "IsHalfAttached": "second_attach_is_independent",
    "IsAttachedOnce": "can_be_attached_again",
    "RemovesFromAll": "two_engines_are_independent",
    "KeepsTheEngine": "removed_handler_releases_the_engine",
    "StopsAtAttach": "attach_fires_nothing",
    "NeedsAnEvent": "can_be_attached_or_called",
    "TakesTwoArguments": "can_be_attached_or_called",
    "IsNoHandler": "can_be_attached_or_called",
    "NeedsTheRealEngine": "works_on_fake_engine_and_engine",
    "NeedsTheFake": "works_on_fake_engine_and_engine",
    "ReadsPrivateAttributes": "works_on_fake_engine_and_engine",
    "SwallowsExceptions": "exceptions_reach_the_caller",
    "SwallowsCtrlC": "exceptions_reach_the_caller",
    "MutatesTheOutput": "run_state_is_unchanged",
    "ReplacesTheOutput": "run_state_is_unchanged",
    "RoundsTheMetrics": "run_state_is_unchanged",
    "CountsForItself": "run_state_is_unchanged",
    "WorksOnce": "second_run_works",
    "PhaseIsAString": "phase_is_a_phase",
    "Sleeps": "events_are_fast",
    "RaisesKeyError": "missing_metrics_are_reported",
    "StateIsNotRegistered": "state_travels_with_the_engine",
    "StateIsAnObject": "state_travels_with_the_engine",
    "StateIsNotLoaded": "state_travels_with_the_engine",
    "StateIsHalf": "state_travels_with_the_engine",
    "StateSharesAList": "state_is_a_copy",
    "StateCanBeChanged": "state_is_a_copy",
    "CannotBePickled": "can_be_pickled_or_explains",
    "WaitsInTheConstructor": "constructor_waits_for_no_rank",
    "StopsOneRank": "two_ranks_end_together",
    "WaitsOnOneRank": "two_ranks_end_together",
    "Prints": "process_is_unchanged",
    "ConfiguresLogging": "process_is_unchanged",
    "Seeds": "process_is_unchanged",
}


@pytest.mark.parametrize(("mutant", "check"), MUTANTS.items())
def test_mutants_are_caught(mutant, check):
    """A mutant fails the check of its fault, with a message from the check."""
    if check in NEED_TORCH and importlib.util.find_spec("torch") is None:
        pytest.skip("two ranks need torch")
    result = kit.run_check(CHECKS[check], case_of(getattr(handlers, mutant)))
    assert result.status == "failed", result
    assert "/glowplug_testing/" not in result.message.partition("\n")[0]


def test_all_mutants_are_in_the_table():
    """Every mutant is in the table."""
    mutants = {
        name for name, kind in vars(handlers).items() if getattr(kind, "__module__", "") == handlers.__name__
    }
    assert mutants - {"Best", "History"} == set(MUTANTS)
