"""Steps: positions of records on the x-axis."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from glowplug.engine import EngineReference
from glowplug.events import CallableEventWithFilter
from glowplug.typing import EngineProtocol

GlobalStep: TypeAlias = Callable[[EngineProtocol, CallableEventWithFilter | str], int]


def global_step_from_engine(
    engine: EngineProtocol,
    custom_event_name: CallableEventWithFilter | str | None = None,
    fallback_attr: str = "epoch",
) -> GlobalStep:
    """Return a ``global_step_transform`` that reads the step from another engine.

    Args:
        engine: The engine whose counter is the step, usually the trainer. The result does not keep it alive.
        custom_event_name: Event whose counter to read. Defaults to the event at which the values are logged.
        fallback_attr: State attribute to read for an event without a counter. Defaults to ``"epoch"``.

    Example:
        >>> from glowplug import Events
        >>> from glowplug.testing import FakeEngine
        >>> trainer, evaluator = FakeEngine(), FakeEngine()
        >>> trainer.state.epoch = 7
        >>> global_step_from_engine(trainer)(evaluator, Events.COMPLETED)
        7
    """
    reference = EngineReference(engine)

    def global_step(_: EngineProtocol, event_name: CallableEventWithFilter | str) -> int:
        source = reference()
        if source is None:
            raise RuntimeError(
                "global_step_from_engine: the engine no longer exists; keep a reference to it while its steps are in use"
            )
        counter = _counter(source, custom_event_name or event_name) or fallback_attr
        step: int = getattr(source.state, counter)
        return step

    return global_step


def default_step(engine: EngineProtocol, event_name: CallableEventWithFilter | str) -> int:
    """Return the step of an event.

    The step is the counter of the event. For an evaluator that runs in a handler of a trainer, it is the counter of the
    trainer's current event, because the evaluator starts at epoch 1 in each run. Iteration events always use the
    evaluator's own counter.

    Args:
        engine: The engine that fires the event.
        event_name: The event.
    """
    counter = _counter(engine, event_name)
    while counter != "iteration":
        parent = engine.parent
        # A mock engine has an endless chain of parents without a current event.
        if parent is None or not isinstance(parent.current_event, (CallableEventWithFilter, str)):
            break
        engine = parent
        counter = _counter(engine, parent.current_event)
    return checked_step(getattr(engine.state, counter or "iteration"), "engine.state")


def checked_step(step: Any, source: str) -> int:
    """Return a step as an ``int``.

    Args:
        step: The step.
        source: Origin of the step in the error message.

    Raises:
        TypeError: If the step is not an integer.
    """
    if step.__class__ is int:
        return step
    try:
        return operator.index(step)
    except TypeError:
        raise TypeError(f"{source}: the step must be an integer, got {step!r}") from None


def _counter(engine: EngineProtocol, event_name: CallableEventWithFilter | str) -> str | None:
    key = event_name.event if isinstance(event_name, CallableEventWithFilter) else event_name
    counter = engine.state.event_to_attr.get(key)
    return counter if isinstance(counter, str) else None
