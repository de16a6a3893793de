"""State of an engine, and how its runs start and end."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from glowplug.events import AnyEvent, CallableEventWithFilter, Events, EventsList

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


class RunOutcome(Enum):
    """How a run ended."""

    COMPLETED = "completed"
    TERMINATED = "terminated"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class RunStart(Enum):
    """How a run started."""

    NEW = "new"
    CONTINUED = "continued"
    LOADED = "loaded"


class State:
    """State of an engine's run; accepts further attributes.

    ``iteration`` and ``epoch`` count from 1 while a run is on; ``output`` is what the step returned, ``batch`` what it
    was given; ``metrics`` holds the values of attached metrics; ``times`` the seconds of the last epoch and of the run;
    ``outcome`` how the last run ended (``None`` before, and while one is on); ``run_start`` whether the run is new,
    continues the one before, or was loaded with ``load_state_dict``.

    Args:
        **attributes: further attributes, or other values for those above.

    Example:
        >>> State(best=0.5).best
        0.5
    """

    iteration: int
    epoch: int
    epoch_length: int | None
    max_epochs: int | None
    max_iters: int | None
    output: Any
    batch: Any
    metrics: dict[str, Any]
    dataloader: Any
    seed: int | None
    times: dict[str, float | None]
    outcome: RunOutcome | None
    run_start: RunStart

    def __init__(self, **attributes: Any) -> None:
        self.iteration = 0
        self.epoch = 0
        self.epoch_length = None
        self.max_epochs = None
        self.max_iters = None
        self.output = None
        self.batch = None
        self.metrics = {}
        self.dataloader = None
        self.seed = None
        self.times = {"EPOCH_COMPLETED": None, "COMPLETED": None}
        self.outcome = None
        self.run_start = RunStart.NEW
        # Belongs to one engine: a custom counter of one engine is unknown to all others.
        self.event_to_attr: dict[CallableEventWithFilter | str, str] = COUNTERS.copy()
        for (
            name,
            value,
        ) in attributes.items():  # not through __dict__: once it exists, each access costs twice
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def get_event_attrib_value(self, event_name: AnyEvent) -> int:
        """Return the counter that belongs to an event.

        Args:
            event_name: an event, plain or filtered.

        Raises:
            RuntimeError: the event has no counter.

        Example:
            >>> State(epoch=3).get_event_attrib_value(Events.EPOCH_COMPLETED)
            3
        """
        key = event_name.event if isinstance(event_name, CallableEventWithFilter) else event_name
        attribute = None if isinstance(key, EventsList) else self.event_to_attr.get(key)
        if attribute is None:
            raise RuntimeError(
                f"{event_name} has no counter in the state; those that have one: "
                f"{', '.join(map(str, self.event_to_attr))}"
            )
        value: int = getattr(self, attribute)
        return value

    def __repr__(self) -> str:
        def shown(value: Any) -> Any:
            return value if isinstance(value, (int, float, str, Enum)) else type(value).__name__

        lines = (f"\t{name}: {shown(value)}" for name, value in vars(self).items() if name != "event_to_attr")
        return "State:\n" + "\n".join(lines)
