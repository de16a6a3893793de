"""Making, copying and pickling an engine."""

from __future__ import annotations

import copy
import functools
import logging
import pickle

import pytest

from glowplug import Engine, Events, State


class Fresh:
    """Data whose iterators cannot be copied, though it can."""

    def __iter__(self):
        yield from (1, 2, 3)


def double(engine, batch):
    """Return twice the batch."""
    return 2 * batch


def count(engine):
    """Count the calls in the state."""
    engine.state.calls = getattr(engine.state, "calls", 0) + 1


def test_E_001_process_function_is_needed():
    """None is refused, with how a process function is called."""
    with pytest.raises(ValueError, match=r"process_function, called as f\(engine, batch\); got None"):
        Engine(None)


@pytest.mark.parametrize(
    "function", [lambda: None, lambda engine: None, lambda engine, batch, third: None, len]
)
def test_E_002_signature_is_checked_when_made(function):
    """A function that cannot be called with engine and batch is refused when the engine is made."""
    with pytest.raises(ValueError, match=r"called as f\(engine, batch\), which .* does not take"):
        Engine(function)


def test_E_002_not_a_function():
    """Something that cannot be called is refused as such."""
    with pytest.raises(ValueError, match=r"Engine needs a function.*got 'step'"):
        Engine("step")


@pytest.mark.parametrize(
    "function",
    [double, functools.partial(double), lambda *args: 2 * args[1], lambda engine, batch, third=0: 2 * batch],
)
def test_E_002_any_callable_of_two_arguments(function):
    """Functions, partials, stars and defaults are process functions if they take engine and batch."""
    assert Engine(function).run([21]).output == 42


def test_E_003_step_gets_engine_and_batch():
    """The step is called with the engine and the batch, and its value is the output, as it is."""
    got, result = [], object()

    def step(*args, **kwargs):
        got.append((args, kwargs))
        return result

    engine = Engine(step)
    assert engine.run(["batch"]).output is result
    assert got == [((engine, "batch"), {})]


def test_E_004_public_attributes():
    """A new engine has an empty state, no requests to stop, and a logger named after its class."""

    class Trainer(Engine):
        pass

    engine = Trainer(double)
    assert type(engine.state) is State
    assert engine.last_event_name is None
    assert (engine.should_terminate, engine.should_terminate_single_epoch, engine.should_interrupt) == (
        False,
    ) * 3
    assert engine.state_dict_user_keys == []
    assert isinstance(engine.logger, logging.Logger)
    assert Engine(double).logger.name == "glowplug.engine.Engine"
    assert engine.logger.name.endswith("Trainer")
    engine.logger = logging.getLogger("of this script")
    assert engine.logger.name == "of this script"


def test_E_006_engine_is_no_context_manager():
    """An engine holds nothing that would have to be closed."""
    engine = Engine(double)
    assert not hasattr(engine, "__enter__")
    assert not hasattr(engine, "close")


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["deepcopy", "pickle"]
)
def test_E_141_engines_are_copied_with_their_handlers(copied):
    """A pickled or copied engine runs as the first does, with handlers, filters and phases of its own."""
    engine = Engine(double)
    engine.add_event_handler(Events.ITERATION_COMPLETED, count)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), count)
    engine.run([1, 2, 3])
    other = copied(engine)
    assert (other.state.calls, other.state.iteration, other.state.output) == (4, 3, 6)
    other.remove_event_handler(count, Events.ITERATION_COMPLETED)
    other.run([5])
    assert (other.state.calls, other.state.output) == (4, 10)
    assert (engine.state.calls, engine.state.output) == (4, 6)
    engine.run([1, 2])
    assert engine.state.calls == 7


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["deepcopy", "pickle"]
)
def test_E_141_after_data_whose_iterators_cannot_be_copied(copied):
    """An engine keeps no iterator of its last run that would keep it from being copied, and the copy goes on."""
    engine = Engine(double)
    engine.run(Fresh(), max_epochs=2)
    other = copied(engine)
    assert other.run(Fresh(), max_epochs=3).iteration == 9
    assert other.state_dict()["iteration"] == 9


def test_E_141_handles_survive_in_the_engine_they_belong_to():
    """A handle of the first engine does nothing to its copy."""
    engine = Engine(double)
    handle = engine.add_event_handler(Events.STARTED, count)
    other = copy.deepcopy(engine)
    handle.remove()
    assert not engine.has_event_handler(count)
    assert other.has_event_handler(count)


def test_E_141_interrupted_engine_says_what_to_do():
    """An engine whose loop is suspended cannot be pickled, and says what to save instead."""
    engine = Engine(double)
    handle = engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt())
    engine.run([1, 2])
    handle.remove()
    with pytest.raises(TypeError, match=r"interrupted engine cannot be pickled.*engine.state_dict\(\)"):
        pickle.dumps(engine)
    engine.run()
    assert pickle.loads(pickle.dumps(engine)).state.iteration == 2
