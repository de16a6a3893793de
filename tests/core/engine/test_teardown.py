"""TEARDOWN fires exactly once at the end of each run, whatever ended it."""

from __future__ import annotations

import gc
import logging

import pytest

from glowplug import Engine, Events, RunOutcome


def stop(name):
    """Return a step that ends its run in one of the ways."""

    def step(engine, batch):
        if name == "error":
            raise ValueError("step")
        if name == "keyboard":
            raise KeyboardInterrupt
        if name in {"terminate", "interrupt", "terminate_epoch"}:
            getattr(engine, name)()
        if name == "skip":
            engine.terminate(skip_completed=True)

    return step


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("end", RunOutcome.COMPLETED),
        ("terminate", RunOutcome.TERMINATED),
        ("skip", RunOutcome.TERMINATED),
        ("terminate_epoch", RunOutcome.COMPLETED),
        ("error", RunOutcome.FAILED),
        ("keyboard", RunOutcome.FAILED),
    ],
)
def test_E_159_teardown_is_last_and_fires_once(name, outcome, fired):
    """It is the last event of the run, and its handlers can read how the run ended."""
    engine, seen = Engine(stop(name)), []
    names = fired(engine)
    engine.add_event_handler(Events.TEARDOWN, lambda e: seen.append(e.state.outcome))
    try:
        engine.run([1, 2], max_epochs=2)
    except (ValueError, KeyboardInterrupt):
        assert outcome is RunOutcome.FAILED
    assert names.count("TEARDOWN") == 1
    assert names[-1] == "TEARDOWN"
    assert seen == [outcome]
    assert engine.state.outcome is outcome


def test_an_interrupted_run_has_not_ended(fired):
    """INTERRUPT is no end of the run: TEARDOWN waits for it."""
    engine = Engine(stop("interrupt"))
    names = fired(engine, Events.TEARDOWN)
    engine.run([1, 2])
    assert names == []
    engine.run()
    engine.run()
    assert names == ["TEARDOWN"]
    assert engine.state.outcome is RunOutcome.COMPLETED


def test_once_per_run(identity, fired):
    """Each run has its own, also one that goes on with another."""
    names = fired(identity, Events.STARTED, Events.TEARDOWN)
    identity.run([1])
    identity.run([1], max_epochs=2)
    assert names == ["STARTED", "TEARDOWN"] * 2


def test_outcome_is_none_while_running(identity):
    """While a run is on, also the second, it has no outcome."""
    seen = []
    identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(e.state.outcome))
    identity.run([1])
    identity.run([1])
    assert seen == [None, None]


def test_error_in_teardown_after_a_good_run(identity, fired):
    """An error of a TEARDOWN handler is raised, after the others have run; the run has failed."""

    def broken():
        raise OSError("disk full")

    identity.add_event_handler(Events.TEARDOWN, broken)
    names = fired(identity, Events.EXCEPTION_RAISED, Events.TEARDOWN)
    with pytest.raises(OSError, match="disk full"):
        identity.run([1])
    assert names == ["TEARDOWN"]
    assert identity.state.outcome is RunOutcome.FAILED


def test_error_in_teardown_does_not_hide_the_first(fired, caplog):
    """The error that ended the run is the one that is raised; that of TEARDOWN is logged with its traceback."""
    engine = Engine(stop("error"))

    def broken():
        raise OSError("disk full")

    engine.add_event_handler(Events.TEARDOWN, broken)
    names = fired(engine, Events.EXCEPTION_RAISED, Events.TEARDOWN)
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="step"):
        engine.run([1])
    assert names == ["EXCEPTION_RAISED", "TEARDOWN"]
    (record,) = caplog.records
    assert "Events.TEARDOWN failed" in record.message
    assert record.exc_info[0] is OSError


def test_all_teardown_handlers_run_whatever_they_raise(identity, caplog):
    """Each TEARDOWN handler runs though all of them fail, and the first error is raised."""
    ran = []

    def broken(_, number):
        ran.append(number)
        raise OSError(f"number {number}")

    for number in (1, 2, 3):
        identity.add_event_handler(Events.TEARDOWN, broken, number)
    with pytest.raises(OSError, match="number 1"):
        identity.run([1])
    assert ran == [1, 2, 3]
    assert len(caplog.records) == 2


def test_error_in_teardown_after_a_suppressed_one(identity):
    """When the error of the run was suppressed, that of TEARDOWN is raised."""

    def broken():
        raise OSError("disk full")

    identity.add_event_handler(Events.STARTED, lambda: 1 / 0)
    identity.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
    identity.add_event_handler(Events.TEARDOWN, broken)
    with pytest.raises(OSError, match="disk full"):
        identity.run([1])


@pytest.mark.parametrize("name", ["end", "error", "keyboard", "terminate", "skip"])
def test_a_failed_teardown_does_not_harm_the_next_run(name):
    """After a failure in TEARDOWN, the engine runs again."""
    engine = Engine(stop(name))
    with (
        engine.add_event_handler(Events.TEARDOWN, lambda: 1 / 0),
        pytest.raises((ZeroDivisionError, ValueError, KeyboardInterrupt)),
    ):
        engine.run([1], max_epochs=2)
    engine._process_function = stop("end")
    engine.state.max_epochs = None
    assert engine.run([1]).outcome is RunOutcome.COMPLETED
    assert engine.parent is None


def test_iterator_is_let_go_when_the_run_ends(identity):
    """When run() returns, the engine holds the data's iterator no more, so its workers and files can close."""
    closed = []

    class Data:
        def __iter__(self):
            try:
                yield from range(10)
            finally:
                closed.append(True)

    identity.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.terminate())
    identity.run(Data())
    gc.collect()
    assert closed == [True]


def test_teardown_sees_last_metrics_and_output(identity):
    """Handlers of TEARDOWN still find what the run has left in the state."""
    seen = []
    identity.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(accuracy=0.5))
    identity.add_event_handler(
        Events.TEARDOWN, lambda e: seen.append((e.state.output, dict(e.state.metrics)))
    )
    identity.run([1, 2])
    assert seen == [(2, {"accuracy": 0.5})]
