"""P3: a handler that the run can do without is detached when it fails; other errors end the run."""

import copy
import gc
import pickle
import weakref

import pytest

from glowplug import Engine, Events, Phase, RemovableEventHandle, RunOutcome
from glowplug.exceptions import GlowplugWarning
from glowplug.testing import FakeEngine

DISABLED = pytest.warns(GlowplugWarning, match="It was detached and the run continues")


class Flaky:
    """Fails at one epoch; has a phase, a state, and two registrations at its event."""

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
    """A handler of one function at one event."""

    def __init__(self, event, function):
        self.event = event
        self.function = function

    def attach(self, engine):
        return engine.add_event_handler(self.event, self.function)


def fail(*_):
    """Raise what no handler foresees."""
    raise LookupError("a handler's own mistake")


def make_engine():
    """An engine with a step that does nothing."""
    return Engine(step)


def step(engine, batch):
    """Do nothing, as a function that can be pickled."""


def test_P3_failing_handler_is_taken_off_and_counted():
    """The run goes on; the handler is called no more, and one warning names it, the event and what it raised."""
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
        f"Flaky ({__name__}) failed at Events.EPOCH_COMPLETED, in epoch 2, iteration 4: OSError: no disk. It was "
        "detached and the run continues; see engine.faults[-1].traceback. To end the run instead: engine.attach(..., "
        "on_error='raise')"
    )
    engine.run([1], max_epochs=6)
    assert flaky.calls == [1, "flush", 2]
    assert len(engine.faults) == 1


def test_P3_plugin_and_distribution_are_named(site):
    """A fault of an installed plugin's handler names plugin, distribution and version, and loads no plugin for it."""
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


def test_P3_default_ends_the_run():
    """Without on_error a handler's exception is raised, and nothing is counted."""
    engine, flaky = make_engine(), Flaky()
    engine.attach(flaky)
    with pytest.raises(OSError, match="no disk") as caught:
        engine.run([1], max_epochs=4)
    assert caught.value is flaky.error
    assert engine.state.outcome is RunOutcome.FAILED
    assert engine.faults == ()


def test_P3_handler_without_it_pays_nothing():
    """What the loop calls for such a handler is its method itself."""
    engine, flaky = make_engine(), Flaky()
    engine.attach(flaky)
    assert engine._channels[Events.EPOCH_COMPLETED].unfiltered[0] == flaky.write


def test_P3_others_of_the_same_call_stay():
    """Of several optional handlers only the one that fails is detached, and the handle removes the others."""
    engine, failing, healthy = make_engine(), Flaky(), Flaky(at_epoch=9, key="other")
    handle = engine.attach(failing, healthy, on_error="disable")
    with DISABLED:
        engine.run([1], max_epochs=3)
    assert healthy.calls == [1, "flush", 2, "flush", 3, "flush"]
    handle.remove()
    assert not engine.has_event_handler(healthy.write)
    assert engine.state_dict()["handlers"].keys() == {"Flaky"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_P3_what_is_no_exception_goes_through(error):
    """Ctrl-C and its like end the run, and the handler stays."""
    engine, flaky = make_engine(), Flaky(error())
    engine.attach(flaky, on_error="disable")
    with pytest.raises(error):
        engine.run([1], max_epochs=4)
    assert engine.faults == ()
    assert engine.has_event_handler(flaky.write)


def test_P3_stop_iteration_is_a_fault_like_any_other():
    """It does not end the data, nor the run."""
    engine = make_engine()
    engine.attach(Flaky(StopIteration()), on_error="disable")
    with DISABLED:
        assert engine.run([1], max_epochs=4).epoch == 4


def test_P3_function_of_the_user_raises_at_the_same_event():
    """A function beside an optional handler ends the run as ever."""
    engine = make_engine()
    engine.attach(Flaky(at_epoch=9), on_error="disable")
    engine.add_event_handler(Events.EPOCH_COMPLETED, fail)
    with pytest.raises(LookupError):
        engine.run([1])
    assert engine.faults == ()


def test_P3_function_of_the_user_raises_through_an_optional_handler():
    """An optional handler fires an event, and the user's function there fails: that is not the handler's fault."""
    engine, handler = make_engine(), At(Events.EPOCH_COMPLETED, lambda e: e.fire_event("saved"))
    engine.register_events("saved")
    engine.attach(handler, on_error="disable")
    engine.add_event_handler("saved", fail)
    with pytest.raises(LookupError):
        engine.run([1])
    assert engine.has_event_handler(handler.function)


@pytest.mark.parametrize("place", ["step", "data", *map(str, (Events.EPOCH_COMPLETED, Events.TEARDOWN))])
def test_P3_what_fails_in_a_run_that_an_optional_handler_starts(place):
    """The step, the data and the functions of an evaluator are the user's, whoever runs it."""
    evaluator = Engine(fail if place == "step" else step)
    if place.startswith("Events."):
        evaluator.add_event_handler(Events[place.removeprefix("Events.")], fail)
    data = map(fail, [1]) if place == "data" else [1]
    engine = make_engine()
    engine.attach(At(Events.EPOCH_COMPLETED, lambda: evaluator.run(data)), on_error="disable")
    with pytest.raises(LookupError):
        engine.run([1])
    assert engine.faults == ()


@pytest.mark.parametrize(
    "mistake", [lambda e: e.fire_event("no such event"), lambda e: e.run([1]), lambda e: Engine(step).run(3)]
)
def test_P3_wrong_call_of_an_engine_is_the_handlers_fault(mistake):
    """An engine that refuses what an optional handler asks of it is no reason to end the run."""
    engine = make_engine()
    engine.attach(At(Events.EPOCH_COMPLETED, mistake), on_error="disable")
    with DISABLED:
        assert engine.run([1]).outcome is RunOutcome.COMPLETED


def test_P3_at_exception_raised():
    """A failing optional handler hides the run's own exception from nobody; one that raises it again has no fault."""
    engine, told = make_engine(), []

    def again(engine, error):
        raise error

    engine.attach(At(Events.EXCEPTION_RAISED, fail), At(Events.EXCEPTION_RAISED, again), on_error="disable")
    engine.add_event_handler(Events.EXCEPTION_RAISED, told.append)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: 1 / 0)
    with DISABLED, pytest.raises(ZeroDivisionError) as caught:
        engine.run([1])
    assert told == [caught.value]
    assert caught.traceback[-1].name == "<lambda>"
    (fault,) = engine.faults
    assert isinstance(fault.exception, LookupError)
    assert engine.has_event_handler(again)


def test_P3_told_exception_raised_again_is_no_fault():
    """Also where the exception comes from no run at all: it is not the handler's own."""
    fake, error = FakeEngine(), LookupError()

    def again(engine, error):
        raise error

    fake.attach(At(Events.EXCEPTION_RAISED, again), on_error="disable")
    with pytest.raises(LookupError) as caught:
        fake.fire(Events.EXCEPTION_RAISED, error=error)
    assert caught.value is error
    assert fake.faults == ()


def test_P3_answer_of_an_optional_handler_counts():
    """One that returns True suppresses the exception, and one that asks for the end is obeyed."""
    engine = make_engine()
    engine.attach(
        At(Events.EXCEPTION_RAISED, lambda error: True),
        At(Events.EPOCH_COMPLETED(every=2), lambda e: e.terminate()),
        on_error="disable",
    )
    assert engine.run([1], max_epochs=5).epoch == 2
    engine.add_event_handler(Events.STARTED, fail)
    assert engine.run([1], max_epochs=9).outcome is RunOutcome.FAILED


@pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED, Events.TEARDOWN])
def test_P3_filter_of_an_optional_handler(event):
    """A filter that fails takes its handler off too, at each kind of event."""
    engine, ran = make_engine(), []
    handler = At(event(event_filter=lambda engine, number: fail()), lambda: ran.append(1))
    engine.attach(handler, on_error="disable")
    with DISABLED:
        assert engine.run([1]).outcome is RunOutcome.COMPLETED
    assert ran == []
    assert not engine.has_event_handler(handler.function)


@pytest.mark.parametrize("event", [event for event in Events if event is not Events.EXCEPTION_RAISED])
def test_P3_at_each_event(event):
    """Wherever an optional handler fails, the run ends as it does without it."""

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


def test_P3_last_state_is_kept():
    """The state of a handler that was detached is saved on, and is there for it when it is attached again."""
    engine = make_engine()
    engine.attach(Flaky(), on_error="disable")
    with DISABLED:
        engine.run([1], max_epochs=4)
    saved = engine.state_dict()
    assert saved["handlers"] == {"Flaky": {"calls": [1, "flush", 2]}}
    resumed, mended = make_engine(), Flaky(at_epoch=9)
    resumed.load_state_dict(saved)
    resumed.attach(mended, on_error="disable")
    assert mended.calls == [1, "flush", 2]
    again = Flaky(at_epoch=9)
    engine.attach(again)
    assert again.calls == [1, "flush", 2]


def test_P3_state_that_cannot_be_told():
    """An optional handler whose state fails is detached, and the states of the others are saved."""
    engine, optional = make_engine(), Flaky()
    optional.state_dict = fail
    engine.attach(optional, on_error="disable")
    engine.attach(Flaky(key="healthy"))
    with DISABLED:
        assert engine.state_dict()["handlers"] == {"healthy": {"calls": []}}
    assert engine.faults[0].event == "state_dict()"
    assert not engine.has_event_handler(optional.write)
    assert engine.state_dict()["handlers"] == {"healthy": {"calls": []}}


def test_P3_handler_is_shown_and_found_as_itself():
    """describe(), has_event_handler(), remove_event_handler() and the phase see the handler, not its guard."""
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


def step_like(engine):
    """Do nothing, under a name."""


def test_P3_parts_of_a_handler():
    """What a handler attaches in its own attach goes with it; a part that is optional by itself goes alone."""

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


def test_P3_handler_of_two_engines():
    """A handler that registers at another engine too is quiet at both after its fault, which counts where it was."""
    trainer, evaluator = make_engine(), make_engine()
    ran = []

    class Both:
        def attach(self, engine):
            return RemovableEventHandle.join(
                engine.add_event_handler(Events.COMPLETED, ran.append),
                evaluator.add_event_handler(Events.COMPLETED, fail),
            )

    trainer.attach(Both(), on_error="disable")
    with DISABLED:
        evaluator.run([1])
    trainer.run([1])
    assert ran == []
    assert (len(trainer.faults), len(evaluator.faults)) == (0, 1)
    assert not evaluator.has_event_handler(fail)
    assert not trainer.has_event_handler(ran.append)


def test_P3_handle_undoes_what_else_attach_did():
    """What attach returned is used, so that hooks on a model go too; what fails at that ends no run either."""
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


def test_P3_attach_itself_raises():
    """A handler that cannot be attached is an error before the run, optional or not."""

    class Impossible:
        def attach(self, engine):
            raise ValueError("no such metric")

    engine = make_engine()
    with pytest.raises(ValueError, match="no such metric"):
        engine.attach(Impossible(), on_error="disable")
    engine.add_event_handler(Events.STARTED, fail)
    with pytest.raises(LookupError):
        engine.run([1])


def test_P3_unknown_choice_is_refused():
    """The error says what there is to choose from."""
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'disable', got 'ignore'"):
        make_engine().attach(Flaky(), on_error="ignore")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
def test_P3_copies_of_an_engine_have_their_own_faults(copied):
    """In a copy the copied handler is detached, from there alone."""
    engine, flaky = make_engine(), Flaky()
    engine.attach(flaky, on_error="disable")
    other = copied(engine)
    with DISABLED:
        assert other.run([1], max_epochs=3).outcome is RunOutcome.COMPLETED
    assert len(other.faults) == 1
    assert other.describe() == "Nothing is attached to this engine."
    assert engine.has_event_handler(flaky.write)
    assert (flaky.calls, engine.faults) == ([], ())


def test_P3_fault_keeps_no_batch_alive():
    """Neither the fault nor its exception, with what caused it, holds the frames that it went through."""

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
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: alive.append(weakref.ref(e.state.batch)))
    with DISABLED:
        engine.run(data, epoch_length=3)
    engine.state.batch = None
    gc.collect()
    assert [reference() for reference in alive] == [None] * 3
    assert "LookupError: a handler's own mistake" in engine.faults[0].traceback


def test_P3_warning_made_an_error_ends_the_run():
    """Who makes warnings errors hears of the fault as one, with the handler's exception behind it."""
    engine, flaky = make_engine(), Flaky()
    engine.attach(flaky, on_error="disable")
    with pytest.raises(GlowplugWarning, match="was detached") as caught:
        engine.run([1], max_epochs=3)
    assert caught.value.__context__ is flaky.error
    assert flaky.error.__traceback__ is not None


def test_P3_exception_that_cannot_be_shown():
    """An exception whose text fails as well is told of by its type."""

    class NamelessError(Exception):
        def __str__(self):
            raise RuntimeError("no text either")

    engine = make_engine()
    engine.attach(Flaky(NamelessError()), on_error="disable")
    with pytest.warns(GlowplugWarning, match=r"NamelessError: <exception str\(\) failed>"):
        engine.run([1], max_epochs=3)
