"""State of an engine, and enumerations of how a run starts and ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from glowplug.events import AnyEvent, CallableEventWithFilter, Events, EventsList

__all__ = [
    "COUNTERS",
    "RunOutcome",
    "RunStart",
    "State",
]

COUNTERS: MappingProxyType[CallableEventWithFilter | str, str] = MappingProxyType(
    {
        Events.GET_BATCH_STARTED: "iteration",
        Events.GET_BATCH_COMPLETED: "iteration",
        Events.ITERATION_STARTED: "iteration",
        Events.ITERATION_COMPLETED: "iteration",
        Events.STARTED: "epoch",
        Events.EPOCH_STARTED: "epoch",
        Events.EPOCH_COMPLETED: "epoch",
        Events.COMPLETED: "epoch",
    }
)
"""Maps events to the attribute of the state that counts them."""


class RunOutcome(Enum):
    """How a run ended, as ``engine.state.outcome``.

    Example:
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: engine.terminate())
        >>> engine.run([1, 2, 3]).outcome
        <RunOutcome.TERMINATED: 'terminated'>
    """

    COMPLETED = "completed"
    """The run reached its limit."""
    TERMINATED = "terminated"
    """A handler or the step called ``terminate()``."""
    INTERRUPTED = "interrupted"
    """``interrupt()`` was called, or a :class:`~glowplug.exceptions.PreemptionExit` was raised; the next ``run()`` continues."""
    FAILED = "failed"
    """An exception ended the run."""


class RunStart(Enum):
    """How a run started, as ``engine.state.run_start``.

    Example:
        >>> from glowplug import Engine, Events
        >>> engine = Engine(lambda engine, batch: batch)
        >>> handle = engine.add_event_handler(Events.STARTED, lambda engine: print(engine.state.run_start))
        >>> state = engine.run([1, 2, 3], max_epochs=1)
        RunStart.NEW
        >>> state = engine.run([1, 2, 3], max_epochs=2)
        RunStart.CONTINUED
    """

    NEW = "new"
    """The run started at epoch 1."""
    CONTINUED = "continued"
    """The run continued the previous run of the same engine."""
    LOADED = "loaded"
    """The run continued from a state that ``load_state_dict()`` loaded."""


class State:
    """State of an engine; user code may add attributes.

    Args:
        **attributes: Initial values of the attributes below and of additional attributes.

    Attributes:
        iteration: Number of the current iteration, counted from 1 over all epochs; 0 before the first iteration.
        epoch: Number of the current epoch, counted from 1; 0 before the first epoch.
        epoch_length: Number of iterations in an epoch; ``None`` if the number is unknown.
        max_epochs: Number of epochs after which the run ends; ``None`` means no limit.
        max_iters: Number of iterations after which the run ends; ``None`` means no limit.
        output: The return value of the step function in the current iteration.
        batch: The batch of the current iteration, which is passed to the step function.
        metrics: Values of the attached metrics, by name.
        dataloader: The data of the run.
        seed: Reserved for user code; the engine does not read it.
        times: Durations in seconds. The keys are ``"EPOCH_COMPLETED"`` for the last epoch and ``"COMPLETED"`` for the run.
        outcome: How the last run ended; ``None`` before the first run and during a run.
        run_start: Whether the run is new, continues the previous run, or starts from a loaded state.
        epoch_start: Number of iterations completed before the current epoch.

    Example:
        >>> State(best=0.5).best
        0.5
    """

    # A class attribute keeps the constructor fast.
    epoch_start: int = 0

    def __init__(self, **attributes: Any) -> None:
        self.iteration = 0
        self.epoch = 0
        self.epoch_length: int | None = None
        self.max_epochs: int | None = None
        self.max_iters: int | None = None
        self.output: Any = None
        self.batch: Any = None
        self.metrics: dict[str, Any] = {}
        self.dataloader: Any = None
        self.seed: int | None = None
        self.times: dict[str, float | None] = {"EPOCH_COMPLETED": None, "COMPLETED": None}
        self.outcome: RunOutcome | None = None
        self.run_start = RunStart.NEW
        # Each engine has its own copy, because custom counters belong to one engine.
        self.event_to_attr: dict[CallableEventWithFilter | str, str] = COUNTERS.copy()
        # Use setattr: after access through __dict__, each attribute access would cost twice as much.
        for name, value in attributes.items():
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def get_event_attrib_value(self, event_name: AnyEvent) -> int:
        """Return the current value of the counter of an event.

        Args:
            event_name: The event, with or without a filter.

        Raises:
            RuntimeError: If the event has no counter.

        Example:
            >>> State(epoch=3).get_event_attrib_value(Events.EPOCH_COMPLETED)
            3
        """
        key = event_name.event if isinstance(event_name, CallableEventWithFilter) else event_name
        attribute = None if isinstance(key, EventsList) else self.event_to_attr.get(key)
        if attribute is None:
            raise RuntimeError(
                f"{event_name} has no counter in the state; events with a counter: "
                f"{', '.join(map(str, self.event_to_attr))}"
            )
        return cast("int", getattr(self, attribute))

    def __repr__(self) -> str:
        lines = (
            f"\t{name}: {_shown(value)}" for name, value in vars(self).items() if name != "event_to_attr"
        )
        return "State:\n" + "\n".join(lines)


_FEW, _SHORT, _DEEP = 8, 120, 4


def _shown(value: Any, depth: int = 0) -> str:
    """Describe a value in one line: show numbers, text, and small arrays and containers; for other objects, show the type."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if value is None or isinstance(value, (int, float, str)):
        return repr(value) if depth else str(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _shown_array(value)
    if depth < _DEEP and isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_shown(item, depth + 1)}" for key, item in value.items()) + "}"
    if depth < _DEEP and isinstance(value, (list, tuple)):
        return _shown_sequence(value, depth)
    return type(value).__name__


def _shown_sequence(value: list[Any] | tuple[Any, ...], depth: int) -> str:
    if len(value) <= _FEW:
        parts = ", ".join(_shown(item, depth + 1) for item in value)
        comma = "," if len(value) == 1 and isinstance(value, tuple) else ""
        text = f"[{parts}]" if isinstance(value, list) else f"({parts}{comma})"
        if len(text) <= _SHORT:
            return text
    return f"{type(value).__name__} of length {len(value)}"


def _shown_array(value: Any) -> str:
    """Return the values of a small tensor or array, or the dtype and shape of a large one."""
    shape = tuple(value.shape)
    if math.prod(shape) <= _FEW:
        return " ".join(repr(value).split())
    return f"{str(value.dtype).removeprefix('torch.')} {type(value).__name__} of shape {shape}"
