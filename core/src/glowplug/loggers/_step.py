"""Steps: positions of records on the x-axis."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from glowplug.engine import EngineReference
from glowplug.events import CallableEventWithFilter, Events
from glowplug.handles import RemovableEventHandle
from glowplug.stash import Stash, StashKey
from glowplug.state import RunStart
from glowplug.typing import EngineProtocol

_MAX_DEPTH = 100

GlobalStep: TypeAlias = Callable[[EngineProtocol, CallableEventWithFilter | str], int]


def global_step_from_engine(
    engine: EngineProtocol,
    custom_event_name: CallableEventWithFilter | str | None = None,
    fallback_attr: str = "epoch",
) -> GlobalStep:
    """Return a ``global_step_transform`` that reads the step from another engine.

    Args:
        engine: The engine that provides the step, usually the trainer. The returned function holds only a weak reference
            to this engine.
        custom_event_name: Event whose counter is the step. Defaults to the event at which the values are logged.
        fallback_attr: Name of the state attribute that provides the step if the event has no counter. Defaults to ``"epoch"``.

    Returns:
        The function. It raises ``RuntimeError`` if ``engine`` no longer exists.

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
                "global_step_from_engine: the engine that provides the step no longer exists, because nothing refers to it. "
                "Keep a reference to this engine as long as a handler uses the engine's epoch or iteration as the step"
            )
        counter = _counter(source, custom_event_name or event_name) or fallback_attr
        step: int = getattr(source.state, counter)
        return step

    return global_step


def default_step(engine: EngineProtocol, event_name: CallableEventWithFilter | str) -> int:
    """Return the step of an event.

    By default, the step is the counter of the event. For an evaluator that runs in a trainer, the following
    rules apply, because the evaluator's epoch starts at 1 in each run:

    - At iteration events, the step is the evaluator's iteration, counted over all its runs in the trainer.
    - At other events, the step is the counter of the trainer's current event. If the evaluator runs inside the trainer's
      process function, the step is the trainer's iteration.

    Args:
        engine: The engine that fires the event.
        event_name: The event.
    """
    counter = _counter(engine, event_name)
    parent = None if engine.parent is None else _parent(engine)
    if parent is None:
        return checked_step(getattr(engine.state, counter or "iteration"), "engine.state")
    if counter == "iteration":
        return _steps_of(engine).step(engine)
    # The depth is limited because an object that is not an engine, such as a mock, may be its own parent.
    for _ in range(_MAX_DEPTH):
        event, outer = parent.current_event, _parent(parent)
        counter = "iteration" if event is None else _counter(parent, event)
        if counter == "iteration" or outer is None:
            break
        parent = outer
    return checked_step(getattr(parent.state, counter or "iteration"), "engine.state")


class _RunSteps:
    """Step counter for the iterations of an evaluator; the step keeps increasing from run to run."""

    state_key = "steps"

    def __init__(self) -> None:
        self._last = 0
        # The step before the first iteration of the current run, once it is known.
        self._offset: int | None = None
        self._handle: RemovableEventHandle | None = None

    def __call__(self, engine: EngineProtocol) -> None:
        """Begin a new run."""
        if engine.state.run_start is RunStart.NEW:
            self._offset = None

    def step(self, engine: EngineProtocol) -> int:
        """Return the step of the current iteration, and attach the counter to the evaluator if it is not attached."""
        if self._handle is None:
            self._offset = None
            self._handle = engine.add_event_handler(Events.STARTED, self)
        iteration = checked_step(engine.state.iteration, "engine.state")
        if self._offset is None:
            # The iteration is 0 at the first GET_BATCH event. Add 1, or the last step of the previous run would occur again.
            self._offset = self._last + (iteration == 0 < self._last)
        self._last = max(self._last, self._offset + iteration)
        return self._offset + iteration

    def detach(self) -> None:
        """Detach the counter from the evaluator; later steps continue from the last one."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def state_dict(self) -> dict[str, int]:
        """Return the last step."""
        return {"last": self._last}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore the last step; later steps continue from it."""
        self._last = state["last"]
        self._offset = None


def _steps_of(engine: EngineProtocol) -> _RunSteps:
    steps = engine.stash.get(_STEPS)
    if steps is None:
        steps = engine.stash[_STEPS] = _RunSteps()
    return steps


def detach_steps(stash: Stash) -> None:
    """Detach the step counter of an evaluator to which no logger is attached any more.

    Args:
        stash: The stash of the evaluator.
    """
    steps = stash.get(_STEPS)
    if steps is not None:
        steps.detach()


def _parent(engine: EngineProtocol) -> EngineProtocol | None:
    """Return the parent engine, or ``None`` if there is no parent or if the parent is a mock."""
    parent = engine.parent
    is_engine = parent is not None and (
        parent.current_event is None or isinstance(parent.current_event, (CallableEventWithFilter, str))
    )
    return parent if is_engine else None


_STEPS = StashKey[_RunSteps]()


def checked_step(step: Any, source: str) -> int:
    """Return a step as an ``int``.

    Args:
        step: The step.
        source: Where the step comes from; the error message starts with this text.

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
    counter = engine.state.event_to_attr.get(event_name)
    return counter if isinstance(counter, str) else None
