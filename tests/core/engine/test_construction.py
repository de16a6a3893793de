"""Creation, copies and pickles of an engine."""

from __future__ import annotations

import copy
import functools
import logging
import pickle
from unittest.mock import MagicMock

import pytest

from glowplug import Engine, Events, State


class UncopyableIterators:
    """Data whose iterators cannot be copied."""

    def __iter__(self):
        yield from (1, 2, 3)


def double(engine, batch):
    """Return twice the batch."""
    return 2 * batch


def count(engine):
    """Count the calls in the engine's state."""
    engine.state.calls = getattr(engine.state, "calls", 0) + 1


class TestProcessFunction:
    def test_attach(self):
        """If the step is an object whose class has attach(), the engine calls it; an attribute of a mock does not count."""

        class Step:
            def attach(self, engine):
                engine.add_event_handler(Events.STARTED, count)

            def __call__(self, engine, batch):
                return engine.state.calls

        assert Engine(Step()).run([1]).output == 1
        mock = MagicMock(return_value=3)
        assert Engine(mock).run([1]).output == 3
        mock.attach.assert_not_called()

    def test_none_is_refused(self):
        """None as the process function raises a ValueError that shows the signature (E-001)."""
        with pytest.raises(ValueError, match=r"can be called as f\(engine, batch\), got None"):
            Engine(None)

    @pytest.mark.parametrize(
        "function", [lambda: None, lambda engine: None, lambda engine, batch, third: None, len]
    )
    def test_wrong_signature_is_refused(self, function):
        """The constructor refuses a function that cannot be called with engine and batch (E-002)."""
        with pytest.raises(ValueError, match=r"must accept the arguments \(engine, batch\), but .* does not"):
            Engine(function)

    def test_not_callable_is_refused(self):
        """The constructor refuses an object that is not callable (E-002)."""
        with pytest.raises(ValueError, match=r"Engine needs a process_function.*got 'step'"):
            Engine("step")

    @pytest.mark.parametrize(
        "function",
        [
            double,
            functools.partial(double),
            lambda *args: 2 * args[1],
            lambda engine, batch, third=0: 2 * batch,
        ],
    )
    def test_any_callable_of_two_arguments(self, function):
        """Functions, partials, star arguments and defaults are accepted if they take engine and batch (E-002)."""
        assert Engine(function).run([21]).output == 42

    def test_receives_engine_and_batch(self):
        """The step receives the engine and the batch, and its return value becomes the output unchanged (E-003)."""
        got, result = [], object()

        def step(*args, **kwargs):
            got.append((args, kwargs))
            return result

        engine = Engine(step)
        assert engine.run(["batch"]).output is result
        assert got == [((engine, "batch"), {})]


class TestAttributes:
    def test_public_attributes(self):
        """A new engine has an empty state, no stop requests, and a logger named after its class (E-004)."""

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

    def test_is_not_a_context_manager(self):
        """An engine has neither __enter__ nor close() (E-006)."""
        engine = Engine(double)
        assert not hasattr(engine, "__enter__")
        assert not hasattr(engine, "close")


class TestCopies:
    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["deepcopy", "pickle"]
    )
    def test_copy_keeps_handlers(self, copied):
        """A pickled or copied engine runs like the original and has independent handlers and filters (E-141)."""
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
    def test_copy_after_uncopyable_iterators(self, copied):
        """An engine can be copied after a run over data whose iterators cannot be copied (E-141)."""
        engine = Engine(double)
        engine.run(UncopyableIterators(), max_epochs=2)
        other = copied(engine)
        assert other.run(UncopyableIterators(), max_epochs=3).iteration == 9
        assert other.state_dict()["iteration"] == 9

    def test_handle_does_not_affect_the_copy(self):
        """A handle of the original engine does not remove handlers from its copy (E-141)."""
        engine = Engine(double)
        handle = engine.add_event_handler(Events.STARTED, count)
        other = copy.deepcopy(engine)
        handle.remove()
        assert not engine.has_event_handler(count)
        assert other.has_event_handler(count)

    def test_interrupted_engine_cannot_be_pickled(self):
        """Pickling an interrupted engine raises a TypeError that suggests state_dict() (E-141)."""
        engine = Engine(double)
        handle = engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.interrupt())
        engine.run([1, 2])
        handle.remove()
        with pytest.raises(TypeError, match=r"interrupted engine cannot be pickled.*engine.state_dict\(\)"):
            pickle.dumps(engine)
        engine.run()
        assert pickle.loads(pickle.dumps(engine)).state.iteration == 2


def test_repr():
    """The repr shows the class, the epoch, the iteration and, after a run, its outcome."""

    class Mine(Engine):
        pass

    engine = Mine(lambda engine, batch: batch)
    assert repr(engine) == "<Mine: epoch 0, iteration 0>"
    seen = []
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: seen.append(repr(engine)))
    engine.run([1, 2], max_epochs=2)
    assert seen == ["<Mine: epoch 1 of 2, iteration 2>"]
    assert repr(engine) == "<Mine: epoch 2 of 2, iteration 4, completed>"
    engine = Mine(lambda engine, batch: batch)
    engine.run([1], max_iters=1)
    assert repr(engine) == "<Mine: epoch 1, iteration 1, completed>"
