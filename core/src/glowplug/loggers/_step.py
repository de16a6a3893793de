"""At which step something is logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from glowplug.events import CallableEventWithFilter
from glowplug.typing import EngineProtocol

GlobalStep: TypeAlias = Callable[[EngineProtocol, CallableEventWithFilter | str], int]


def global_step_from_engine(
    engine: EngineProtocol,
    custom_event_name: CallableEventWithFilter | str | None = None,
    fallback_attr: str = "epoch",
) -> GlobalStep:
    """Return a ``global_step_transform`` that reads the step from another engine, such as the trainer (H-004).

    Args:
        engine: whose counter is read.
        custom_event_name: which event's counter; that of the event being logged by default.
        fallback_attr: the state attribute read for an event without a counter.

    Example:
        >>> from glowplug import Events
        >>> from glowplug.testing import FakeEngine
        >>> trainer, evaluator = FakeEngine(), FakeEngine()
        >>> trainer.state.epoch = 7
        >>> global_step_from_engine(trainer)(evaluator, Events.COMPLETED)
        7
    """

    def global_step(_: EngineProtocol, event_name: CallableEventWithFilter | str) -> int:
        counter = _counter(engine, custom_event_name or event_name) or fallback_attr
        step: int = getattr(engine.state, counter)
        return step

    return global_step


def default_step(engine: EngineProtocol, event_name: CallableEventWithFilter | str) -> int:
    """Return the step of an event: its counter, or that of the engine in whose handler this one runs.

    An evaluator that is run from a trainer's handler is at its own epoch 1 each time, so the trainer's counter of the
    event in which it was called is meant. Its iterations are its own: the trainer stands still during them.
    """
    counter = _counter(engine, event_name)
    while counter != "iteration" and engine.parent is not None and engine.parent.last_event_name is not None:
        engine = engine.parent
        counter = _counter(engine, engine.last_event_name or event_name)
    step: int = getattr(engine.state, counter or "iteration")
    return step


def _counter(engine: EngineProtocol, event_name: CallableEventWithFilter | str) -> str | None:
    key = event_name.event if isinstance(event_name, CallableEventWithFilter) else event_name
    return engine.state.event_to_attr.get(key)
