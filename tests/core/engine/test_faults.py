"""Fault isolation: optional handlers are detached when they fail, other errors end the run (P3)."""

import copy
import gc
import pickle
import weakref

import pytest

from glowplug import Engine, Events, Phase, RemovableEventHandle, RunOutcome
from glowplug.exceptions import GlowplugWarning
from glowplug.testing import FakeEngine

DISABLED = pytest.warns(GlowplugWarning, match="The handler was detached and the run continues")


class Flaky:
    """Handler that fails at one epoch; has a phase, state and two registrations."""

    phase = Phase.LOGGING

    def __init__(self, error=None, at_epoch=2, key="Flaky"):
        self.error = OSError("no disk") if error is None else error
        self.at_epoch = at_epoch
        self.key = key
        self.calls = []

    def attach(self, engine):
        return RemovableEventHandle.join(
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.write),
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.flush),
            engine.register_state(self.key, self),
        )

    def write(self, engine):
        self.calls.append(engine.state.epoch)
        if engine.state.epoch == self.at_epoch:
            raise self.error

    def flush(self):
        self.calls.append("flush")

    def state_dict(self):
        return {"calls": list(self.calls)}

    def load_state_dict(self, state):
        self.calls = list(state["calls"])


class At:
    """Handler that attaches one function at one event."""

    def __init__(self, event, function):
        self.event = event
        self.function = function

    def attach(self, engine):
        return engine.add_event_handler(self.event, self.function)


def fail(*_):
    """Raise a LookupError."""
    raise LookupError("a handler's own mistake")


def make_engine():
    """Return an engine with an empty step."""
    return Engine(step)


def step(engine, batch):
    """Do nothing; unlike a lambda, this step can be pickled."""


class TestNotAFault:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_base_exceptions_propagate(self, error):
        """KeyboardInterrupt, SystemExit and GeneratorExit end the run, and the handler remains attached (P3)."""
        engine, flaky = make_engine(), Flaky(error())
        engine.attach(flaky, on_error="disable")
        with pytest.raises(error):
            engine.run([1], max_epochs=4)
        assert engine.faults == ()
        assert engine.has_event_handler(flaky.write)

    def test_other_handler_at_the_same_event(self):
        """An ordinary handler that fails at the same event ends the run (P3)."""
        engine = make_engine()
        engine.attach(Flaky(at_epoch=9), on_error="disable")
        engine.add_event_handler(Events.EPOCH_COMPLETED, fail)
        with pytest.raises(LookupError):
            engine.run([1])
        assert engine.faults == ()

    def test_handler_of_a_nested_event(self):
        """An ordinary handler that fails at an event fired by an optional handler ends the run (P3)."""
        engine, handler = make_engine(), At(Events.EPOCH_COMPLETED, lambda e: e.fire_event("saved"))
        engine.register_events("saved")
        engine.attach(handler, on_error="disable")
        engine.add_event_handler("saved", fail)
        with pytest.raises(LookupError):
            engine.run([1])
        assert engine.has_event_handler(handler.function)

    @pytest.mark.parametrize("place", ["step", "data", *map(str, (Events.EPOCH_COMPLETED, Events.TEARDOWN))])
    def test_nested_run(self, place):
        """An error in a run that an optional handler starts ends the outer run (P3)."""
        evaluator = Engine(fail if place == "step" else step)
        if place.startswith("Events."):
            evaluator.add_event_handler(Events[place.removeprefix("Events.")], fail)
        data = map(fail, [1]) if place == "data" else [1]
        engine = make_engine()
        engine.attach(At(Events.EPOCH_COMPLETED, lambda: evaluator.run(data)), on_error="disable")
        with pytest.raises(LookupError):
            engine.run([1])
        assert engine.faults == ()


class TestExceptionRaised:
    def test_run_raises_its_original_exception(self):
        """The run raises its original exception though an optional handler fails; raising it again is no fault (P3)."""
        engine, told = make_engine(), []

        def again(engine, error):
            raise error

        engine.attach(
            At(Events.EXCEPTION_RAISED, fail), At(Events.EXCEPTION_RAISED, again), on_error="disable"
        )
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda e: told.append(e))
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: 1 / 0)
        with DISABLED, pytest.raises(ZeroDivisionError) as caught:
            engine.run([1])
        assert told == [caught.value]
        assert caught.traceback[-1].name == "<lambda>"
        (fault,) = engine.faults
        assert isinstance(fault.exception, LookupError)
        assert engine.has_event_handler(again)

    def test_raising_the_exception_again_is_no_fault(self):
        """Raising the handled exception again is no fault on a FakeEngine either (P3)."""
        fake, error = FakeEngine(), LookupError()

        def again(engine, error):
            raise error

        fake.attach(At(Events.EXCEPTION_RAISED, again), on_error="disable")
        with pytest.raises(LookupError) as caught:
            fake.fire(Events.EXCEPTION_RAISED, error=error)
        assert caught.value is error
        assert fake.faults == ()

    def test_optional_handler_suppresses_and_terminates(self):
        """An optional handler can suppress an exception and terminate the run (P3)."""
        engine = make_engine()
        engine.attach(
            At(Events.EXCEPTION_RAISED, lambda error: True),
            At(Events.EPOCH_COMPLETED(every=2), lambda e: e.terminate()),
            on_error="disable",
        )
        assert engine.run([1], max_epochs=5).epoch == 2
        engine.add_event_handler(Events.STARTED, fail)
        assert engine.run([1], max_epochs=9).outcome is RunOutcome.FAILED


class TestHandlerState:
    def test_state_of_a_detached_handler_is_kept(self):
        """The state of a detached handler is saved and restored when it is attached again (P3)."""
        engine = make_engine()
        engine.attach(Flaky(), on_error="disable")
        with DISABLED:
            engine.run([1], max_epochs=4)
        saved = engine.state_dict()
        assert saved["handlers"] == {"Flaky": {"calls": [1, "flush", 2]}}
        resumed, replacement = make_engine(), Flaky(at_epoch=9)
        resumed.load_state_dict(saved)
        resumed.attach(replacement, on_error="disable")
        assert replacement.calls == [1, "flush", 2]
        again = Flaky(at_epoch=9)
        engine.attach(again)
        assert again.calls == [1, "flush", 2]

    def test_failing_state_dict(self):
        """An optional handler whose state_dict() fails is detached, and other states are saved (P3)."""
        engine, optional = make_engine(), Flaky()
        optional.state_dict = fail
        engine.attach(optional, on_error="disable")
        engine.attach(Flaky(key="healthy"))
        with DISABLED:
            assert engine.state_dict()["handlers"] == {"healthy": {"calls": []}}
        assert engine.faults[0].event == "state_dict()"
        assert not engine.has_event_handler(optional.write)
        assert engine.state_dict()["handlers"] == {"healthy": {"calls": []}}


def step_like(engine):
    """Do nothing."""


class TestOnError:
    def test_default_raises(self):
        """A handler attached without on_error ends the run with its exception (P3)."""
        engine, flaky = make_engine(), Flaky()
        engine.attach(flaky)
        with pytest.raises(OSError, match="no disk") as caught:
            engine.run([1], max_epochs=4)
        assert caught.value is flaky.error
        assert engine.state.outcome is RunOutcome.FAILED
        assert engine.faults == ()

    def test_default_is_called_directly(self):
        """From its second call on, the loop calls a handler attached without on_error directly, without a wrapper (P3)."""
        engine, flaky = make_engine(), Flaky()
        engine.attach(flaky)
        engine.run([1])
        assert engine._channels[Events.EPOCH_COMPLETED].unfiltered[0] == flaky.write

    def test_unknown_value(self):
        """An unknown value of on_error raises an error that lists the choices (P3)."""
        with pytest.raises(ValueError, match="on_error must be 'raise' or 'disable', got 'ignore'"):
            make_engine().attach(Flaky(), on_error="ignore")

    def test_attach_that_raises(self):
        """An exception in attach() is raised even for an optional handler (P3)."""

        class Impossible:
            def attach(self, engine):
                raise ValueError("no such metric")

        engine = make_engine()
        with pytest.raises(ValueError, match="no such metric"):
            engine.attach(Impossible(), on_error="disable")
        engine.add_event_handler(Events.STARTED, fail)
        with pytest.raises(LookupError):
            engine.run([1])


class TestAttachedParts:
    def test_handler_is_found_as_itself(self):
        """describe(), has_event_handler() and remove_event_handler() see the handler, not its wrapper (P3)."""
        engine, flaky = make_engine(), Flaky()
        engine.add_event_handler(Events.EPOCH_COMPLETED, flaky.flush)
        engine.attach(flaky, on_error="disable")
        engine.attach(At(Events.STARTED(event_filter=fail), step_like), on_error="disable")
        rows = [line.split() for line in engine.describe().splitlines()]
        assert ["Events.STARTED", "user", "event_filter=fail", "step_like", __name__] in rows
        assert ["Events.EPOCH_COMPLETED", "logging", "Flaky.write", __name__] in rows
        assert engine.has_event_handler(flaky.write)
        engine.remove_event_handler(flaky.write, Events.EPOCH_COMPLETED)
        assert not engine.has_event_handler(flaky.write)

    def test_nested_attach(self):
        """Parts attached by a handler are detached with it; parts that are optional themselves, alone (P3)."""

        class Whole:
            def __init__(self, *parts, **options):
                self.parts, self.options = parts, options

            def attach(self, engine):
                return engine.attach(*self.parts, **self.options)

        engine, failing, healthy = make_engine(), Flaky(), Flaky(at_epoch=9, key="healthy")
        engine.attach(Whole(failing, healthy), on_error="disable")
        with DISABLED:
            engine.run([1], max_epochs=3)
        assert not engine.has_event_handler(healthy.write)
        assert engine.faults[0].handler.endswith("Whole")

        engine, failing, healthy = make_engine(), Flaky(), Flaky(at_epoch=9, key="healthy")
        engine.attach(Whole(failing, healthy, on_error="disable"))
        with DISABLED:
            engine.run([1], max_epochs=3)
        assert engine.has_event_handler(healthy.write)
        assert engine.faults[0].handler == "Flaky"

    def test_handler_of_two_engines(self):
        """A handler registered at two engines is detached from both; the fault belongs to the engine it ran on (P3)."""
        trainer, evaluator = make_engine(), make_engine()
        ran = []

        def record(engine):
            ran.append(engine)

        class Both:
            def attach(self, engine):
                return RemovableEventHandle.join(
                    engine.add_event_handler(Events.COMPLETED, record),
                    evaluator.add_event_handler(Events.COMPLETED, fail),
                )

        trainer.attach(Both(), on_error="disable")
        with DISABLED:
            evaluator.run([1])
        trainer.run([1])
        assert ran == []
        assert (len(trainer.faults), len(evaluator.faults)) == (0, 1)
        assert not evaluator.has_event_handler(fail)
        assert not trainer.has_event_handler(record)

    def test_handle_is_removed(self):
        """A fault removes the handle that attach() returned, and errors of its callbacks do not end the run (P3)."""
        undone = []

        class Hooked:
            def attach(self, engine):
                return RemovableEventHandle.join(
                    RemovableEventHandle(fail),
                    RemovableEventHandle(lambda: undone.append("hook")),
                    engine.add_event_handler(Events.STARTED, fail),
                )

        engine = make_engine()
        handle = engine.attach(Hooked(), on_error="disable")
        with DISABLED:
            assert engine.run([1]).outcome is RunOutcome.COMPLETED
        assert undone == ["hook"]
        handle.remove()
        assert undone == ["hook"]

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
    def test_copy_has_separate_faults(self, copied):
        """A fault in a copied engine detaches the handler from the copy only (P3)."""
        engine, flaky = make_engine(), Flaky()
        engine.attach(flaky, on_error="disable")
        other = copied(engine)
        with DISABLED:
            assert other.run([1], max_epochs=3).outcome is RunOutcome.COMPLETED
        assert len(other.faults) == 1
        assert other.describe() == "Nothing is attached to this engine."
        assert engine.has_event_handler(flaky.write)
        assert (flaky.calls, engine.faults) == ([], ())


class TestFault:
    def test_handler_is_detached_and_reported(self):
        """A failing optional handler is detached, and one warning names handler, event and exception (P3)."""
        engine, flaky, epochs = make_engine(), Flaky(), []
        engine.attach(flaky, on_error="disable")
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: epochs.append(e.state.epoch))
        with pytest.warns(GlowplugWarning) as caught:
            state = engine.run([1, 2], max_epochs=4)
        assert state.outcome is RunOutcome.COMPLETED
        assert epochs == [1, 2, 3, 4]
        assert flaky.calls == [1, "flush", 2]
        (fault,) = engine.faults
        assert (fault.handler, fault.event, fault.exception) == ("Flaky", Events.EPOCH_COMPLETED, flaky.error)
        assert (fault.epoch, fault.iteration) == (2, 4)
        assert "in write\n    raise self.error" in fault.traceback
        (warning,) = caught
        assert str(warning.message) == (
            f"Flaky ({__name__}) failed at Events.EPOCH_COMPLETED, in epoch 2, iteration 4: OSError: no disk. The "
            "handler was detached and the run continues; see engine.faults[-1].traceback. To end the run instead, attach the "
            "handler with on_error='raise'"
        )
        engine.run([1], max_epochs=6)
        assert flaky.calls == [1, "flush", 2]
        assert len(engine.faults) == 1

    def test_plugin_and_distribution_are_named(self, site):
        """A fault names plugin, distribution and version without loading plugins (P3)."""
        site.add_handler("acme-noise", version="4.2")
        (site.folder / "acme_noise" / "handler.py").write_text(
            "from glowplug import Events\n"
            "class Shout:\n"
            "    def attach(self, engine): return engine.add_event_handler(Events.STARTED, self.begin)\n"
            "    def begin(self): raise OSError('hoarse')\n"
        )
        script = (
            "import sys\nfrom glowplug import Engine\nfrom acme_noise.handler import Shout\n"
            "engine = Engine(lambda engine, batch: batch)\nengine.attach(Shout(), on_error='disable')\n"
            "print(engine.run([1]).outcome.name, engine.faults[0].origin)\n"
            "print([name for name in sys.modules if name.endswith('_plugin')])\n"
        )
        ended = site.run("-c", script)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines() == ["COMPLETED plugin 'acme-noise' of acme-noise 4.2", "[]"]
        assert "Shout (plugin 'acme-noise' of acme-noise 4.2) failed at Events.STARTED" in ended.stderr

    def test_other_handlers_of_the_call_remain(self):
        """Of several optional handlers only the failing one is detached, and the handle removes the others (P3)."""
        engine, failing, healthy = make_engine(), Flaky(), Flaky(at_epoch=9, key="other")
        handle = engine.attach(failing, healthy, on_error="disable")
        with DISABLED:
            engine.run([1], max_epochs=3)
        assert healthy.calls == [1, "flush", 2, "flush", 3, "flush"]
        handle.remove()
        assert not engine.has_event_handler(healthy.write)
        assert engine.state_dict()["handlers"].keys() == {"Flaky"}

    def test_stop_iteration_is_a_fault(self):
        """StopIteration of an optional handler ends neither the data nor the run (P3)."""
        engine = make_engine()
        engine.attach(Flaky(StopIteration()), on_error="disable")
        with DISABLED:
            assert engine.run([1], max_epochs=4).epoch == 4

    @pytest.mark.parametrize(
        "mistake",
        [lambda e: e.fire_event("no such event"), lambda e: e.run([1]), lambda e: Engine(step).run(3)],
    )
    def test_refused_engine_call_is_a_fault(self, mistake):
        """An error that an engine raises because of an optional handler's wrong call is a fault (P3)."""
        engine = make_engine()
        engine.attach(At(Events.EPOCH_COMPLETED, mistake), on_error="disable")
        with DISABLED:
            assert engine.run([1]).outcome is RunOutcome.COMPLETED

    @pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED, Events.TEARDOWN])
    def test_failing_filter_is_a_fault(self, event):
        """A failing filter detaches its optional handler (P3)."""
        engine, ran = make_engine(), []
        handler = At(event(event_filter=lambda engine, number: fail()), lambda: ran.append(1))
        engine.attach(handler, on_error="disable")
        with DISABLED:
            assert engine.run([1]).outcome is RunOutcome.COMPLETED
        assert ran == []
        assert not engine.has_event_handler(handler.function)

    @pytest.mark.parametrize("event", [event for event in Events if event is not Events.EXCEPTION_RAISED])
    def test_run_is_unchanged_at_each_event(self, event):
        """A fault at any event leaves outcome, epoch and iteration of the run unchanged (P3)."""

        def outcomes(*handlers):
            engine = make_engine()
            engine.attach(*handlers, on_error="disable")
            engine.add_event_handler(Events.ITERATION_STARTED(once=1), lambda e: e.terminate_epoch())
            engine.add_event_handler(Events.ITERATION_STARTED(once=3), lambda e: e.interrupt())
            engine.add_event_handler(Events.EPOCH_COMPLETED(once=3), lambda e: e.terminate())
            states = [engine.run([1, 2], max_epochs=4, epoch_length=3) for _ in range(2)]
            return [(state.outcome, state.epoch, state.iteration) for state in states], len(engine.faults)

        expected, _ = outcomes()
        with DISABLED:
            assert outcomes(At(event, fail)) == (expected, 1)

    def test_warning_as_error_ends_the_run(self):
        """If warnings are errors, a fault ends the run with the handler's exception as context (P3)."""
        engine, flaky = make_engine(), Flaky()
        engine.attach(flaky, on_error="disable")
        with pytest.raises(GlowplugWarning, match="was detached") as caught:
            engine.run([1], max_epochs=3)
        assert caught.value.__context__ is flaky.error
        assert flaky.error.__traceback__ is not None

    def test_exception_without_text(self):
        """An exception whose __str__ fails is reported by its type (P3)."""

        class NamelessError(Exception):
            def __str__(self):
                raise RuntimeError("no text either")

        engine = make_engine()
        engine.attach(Flaky(NamelessError()), on_error="disable")
        with pytest.warns(GlowplugWarning, match=r"NamelessError: <exception str\(\) failed>"):
            engine.run([1], max_epochs=3)

    def test_fault_keeps_no_batch_alive(self):
        """Neither the fault nor its exception, including its cause, keeps frames alive (P3)."""

        class Batch:
            pass

        def fail_with_cause(engine):
            batch = engine.state.batch
            try:
                fail(batch)
            except LookupError as error:
                raise OSError from error

        engine, alive = make_engine(), []
        engine.attach(At(Events.ITERATION_COMPLETED, fail_with_cause), on_error="disable")
        data = (Batch() for _ in range(3))
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: alive.append(weakref.ref(e.state.batch))
        )
        with DISABLED:
            engine.run(data, epoch_length=3)
        engine.state.batch = None
        gc.collect()
        assert [reference() for reference in alive] == [None] * 3
        assert "LookupError: a handler's own mistake" in engine.faults[0].traceback
