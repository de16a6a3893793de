"""TEARDOWN fires exactly once at the end of each run."""

from __future__ import annotations

import gc
import logging

import pytest

from glowplug import Engine, Events, RunOutcome


def stop(name):
    """Return a step that ends its run in the given way."""

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


class TestOncePerRun:
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
    def test_last_and_once(self, name, outcome, fired):
        """TEARDOWN is the last event, fires once, and its handlers see the outcome (E-159)."""
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

    def test_not_at_an_interrupt(self, fired):
        """TEARDOWN does not fire at an interrupt, but at the end of the continued run."""
        engine = Engine(stop("interrupt"))
        names = fired(engine, Events.TEARDOWN)
        engine.run([1, 2])
        assert names == []
        engine.run()
        engine.run()
        assert names == ["TEARDOWN"]
        assert engine.state.outcome is RunOutcome.COMPLETED

    def test_continued_run_fires_it_again(self, identity, fired):
        """TEARDOWN fires once in each run, also in a continued one."""
        names = fired(identity, Events.STARTED, Events.TEARDOWN)
        identity.run([1])
        identity.run([1], max_epochs=2)
        assert names == ["STARTED", "TEARDOWN"] * 2

    def test_outcome_is_none_while_running(self, identity):
        """The outcome is None while the engine runs, also in a second run."""
        seen = []
        identity.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(e.state.outcome))
        identity.run([1])
        identity.run([1])
        assert seen == [None, None]


class TestErrors:
    def test_error_after_a_completed_run(self, identity, fired):
        """An error of a TEARDOWN handler is raised after the others have run, and the outcome is FAILED."""

        def broken():
            raise OSError("disk full")

        identity.add_event_handler(Events.TEARDOWN, broken)
        names = fired(identity, Events.EXCEPTION_RAISED, Events.TEARDOWN)
        with pytest.raises(OSError, match="disk full"):
            identity.run([1])
        assert names == ["TEARDOWN"]
        assert identity.state.outcome is RunOutcome.FAILED

    def test_error_after_a_failed_run(self, fired, caplog):
        """The run's error is raised; the error of the TEARDOWN handler is logged with its traceback."""
        engine = Engine(stop("error"))

        def broken():
            raise OSError("disk full")

        engine.add_event_handler(Events.TEARDOWN, broken)
        names = fired(engine, Events.EXCEPTION_RAISED, Events.TEARDOWN)
        with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="step"):
            engine.run([1])
        assert names == ["EXCEPTION_RAISED", "TEARDOWN"]
        (record,) = caplog.records
        assert "Events.TEARDOWN raised this exception" in record.message
        assert record.exc_info[0] is OSError

    def test_all_handlers_run(self, identity, caplog):
        """All TEARDOWN handlers run though each one fails, and the first error is raised."""
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

    def test_error_after_a_suppressed_error(self, identity):
        """After a suppressed error, the error of a TEARDOWN handler is raised."""

        def broken():
            raise OSError("disk full")

        identity.add_event_handler(Events.STARTED, lambda: 1 / 0)
        identity.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
        identity.add_event_handler(Events.TEARDOWN, broken)
        with pytest.raises(OSError, match="disk full"):
            identity.run([1])

    @pytest.mark.parametrize("name", ["end", "error", "keyboard", "terminate", "skip"])
    def test_next_run_after_an_error(self, name):
        """The engine runs again after a TEARDOWN handler failed."""
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


class TestRelease:
    def test_iterator_is_released(self, identity):
        """The engine releases the data's iterator when run() returns."""
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

    def test_metrics_and_output_are_available(self, identity):
        """TEARDOWN handlers still see the metrics and the output of the run."""
        seen = []
        identity.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(accuracy=0.5))
        identity.add_event_handler(
            Events.TEARDOWN, lambda e: seen.append((e.state.output, dict(e.state.metrics)))
        )
        identity.run([1, 2])
        assert seen == [(2, {"accuracy": 0.5})]
