"""Base class of all schedulers: state, attaching, simulation, plots."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glowplug import Events, RemovableEventHandle, RunStart
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_schedulers.history import history_of

if TYPE_CHECKING:
    from matplotlib.lines import Line2D


class BaseParamScheduler(ABC):
    """Set a parameter at each event; base class of all schedulers.

    A subclass defines :meth:`get_param` and ``__call__``. To save further attributes with the state, append their names to
    ``_state_attrs``.

    Args:
        param_name: Name of the parameter.
        save_history: Whether to append each value to ``engine.state.param_history[param_name]``. The history is part of
            the engine's state. Defaults to ``False``.

    Attributes:
        param_name: Name of the parameter.
        event_index: Number of events at which the scheduler was called.

    Example:
        >>> from glowplug import Engine
        >>> class BatchLimit(BaseParamScheduler):
        ...     def get_param(self):
        ...         return 10.0 * (self.event_index + 1)
        ...
        ...     def __call__(self, engine, name=None):
        ...         engine.state.limit = self.get_param()
        ...         self.event_index += 1
        >>> engine = Engine(lambda engine, batch: engine.state.limit)
        >>> handle = BatchLimit("limit").attach(engine)
        >>> engine.run([0, 0, 0]).output
        30.0
    """

    default_event: AnyEvent = Events.ITERATION_STARTED
    """The event to which ``attach()`` attaches the scheduler."""

    def __init__(self, param_name: str, save_history: bool = False) -> None:
        self.param_name = param_name
        self.event_index = 0
        self._save_history = save_history
        # The counter of each event at the last call.
        self._counts: dict[str, int] = {}
        self._state_attrs = ["event_index", "param_name", "save_history"]

    @property
    def save_history(self) -> bool:
        """Whether each value is appended to ``engine.state.param_history``."""
        return self._save_history

    @save_history.setter
    def save_history(self, value: bool) -> None:
        self._save_history = value

    @property
    def state_key(self) -> str:
        """Key of the scheduler's state in ``engine.state_dict()``, made from the class and the parameter."""
        return f"{type(self).__name__}:{self.param_name}"

    def attach(self, engine: EngineProtocol, event_name: AnyEvent | None = None) -> RemovableEventHandle:
        """Call the scheduler at an event.

        Args:
            engine: The engine that fires the event.
            event_name: The event, for example ``Events.EPOCH_STARTED`` for one value per epoch. Defaults to
                :attr:`default_event`.

        Returns:
            A handle that detaches the scheduler.
        """
        if self.save_history:
            history_of(engine)
        return engine.add_event_handler(self.default_event if event_name is None else event_name, self)

    @abstractmethod
    def __call__(self, engine: EngineProtocol, name: str | None = None) -> None:
        """Set the parameter to its next value.

        Args:
            engine: The engine that fires the event.
            name: Name of the parameter in the history. Defaults to ``param_name``.
        """

    def is_repeated(self, engine: EngineProtocol | None) -> bool:
        """Return whether the event fires again for the same epoch or iteration, so that the parameter must not change.

        ``EPOCH_STARTED`` fires again if a run is resumed within an epoch. Other events fire again if an exception ended their
        iteration. A custom event may fire several times per iteration, so the method returns ``False``. Call this method once per
        event, at the start of ``__call__``.

        Args:
            engine: The engine that fires the event; ``None`` if there is none.
        """
        event = None if engine is None else engine.current_event
        if engine is None or not isinstance(event, Events):
            return False
        counter = engine.state.event_to_attr.get(event)
        if counter is None:
            return False
        name, count = str(event), getattr(engine.state, counter)
        is_same = self._counts.get(name) == count
        self._counts[name] = count
        return is_same and engine.state.run_start is not RunStart.NEW

    @abstractmethod
    def get_param(self) -> Sequence[float] | float:
        """Return the value for the current ``event_index``, or a list with one value per parameter group."""

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state.

        Example:
            >>> from glowplug_schedulers import ExpStateScheduler
            >>> ExpStateScheduler(1.0, 0.5, "temperature").state_dict()["event_index"]
            0
        """
        state: dict[str, Any] = {"counts": dict(self._counts)}
        for name in self._state_attrs:
            value = getattr(self, name)
            state[name] = copy.deepcopy(value.state_dict() if hasattr(value, "state_dict") else value)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state, so that the next event gets the value that it would have had in the saved run.

        Args:
            state_dict: Result of :meth:`state_dict`.

        Raises:
            TypeError: If the state is not a mapping.
            ValueError: If a part of the state is missing. In that case, nothing is loaded.
        """
        check_state(self, state_dict, self._state_attrs)
        self._counts = dict(state_dict.get("counts", {}))
        for name in self._state_attrs:
            current, value = getattr(self, name), copy.deepcopy(state_dict[name])
            if hasattr(current, "load_state_dict"):
                current.load_state_dict(value)
            else:
                setattr(self, name, value)

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[float]]:
        """Return the values at the first events, without an engine.

        Args:
            num_events: Number of events.
            **scheduler_kwargs: Arguments of the constructor; ``save_history`` has no effect.

        Returns:
            A list ``[number, value, ...]`` for each event; the numbers start at 0.

        Example:
            >>> from glowplug_schedulers import ExpStateScheduler
            >>> ExpStateScheduler.simulate_values(2, initial_value=1.0, gamma=0.5, param_name="temperature")
            [[0, 0.5], [1, 0.25]]
        """
        scheduler_kwargs.pop("save_history", None)
        return simulated(cls(**scheduler_kwargs), num_events)

    def advance(self) -> Any:
        """Count an event without setting the parameter, and return the value for this event.

        Example:
            >>> from glowplug_schedulers import ExpStateScheduler
            >>> ExpStateScheduler(1.0, 0.5, "temperature").advance()
            0.5
        """
        value = self.get_param()
        self.event_index += 1
        return value

    @classmethod
    def plot_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[Line2D]:
        """Plot the values at the first events in matplotlib's current axes.

        Args:
            num_events: Number of events.
            **scheduler_kwargs: Arguments of :meth:`simulate_values`.

        Returns:
            One line, or one per parameter group.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.

        Example:
            >>> from glowplug_schedulers import ExpStateScheduler
            >>> options = {"initial_value": 1.0, "gamma": 0.5, "param_name": "temperature"}
            >>> [line] = ExpStateScheduler.plot_values(2, **options)
            >>> line.get_ydata().tolist()
            [0.5, 0.25]
        """
        try:
            import matplotlib.pyplot as plt
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{cls.__name__}.plot_values requires matplotlib; install it with: pip install 'glowplug-schedulers[plot]'"
            ) from error
        index, *columns = zip(*cls.simulate_values(num_events, **scheduler_kwargs), strict=True)
        label = str(scheduler_kwargs.get("param_name", "learning rate"))
        axes = plt.gca()
        lines = []
        for number, values in enumerate(columns):
            lines += axes.plot(index, values, label=label if len(columns) == 1 else f"{label} [{number}]")
        axes.set_xlabel("event")
        axes.legend()
        axes.grid(visible=True)
        return lines


def check_state(scheduler: object, state_dict: object, names: Sequence[str]) -> None:
    """Raise an error if a state is not a mapping, or lacks one of the names."""
    kind = type(scheduler).__name__
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{kind}: the state must be a dict, got {type(state_dict).__name__}")
    missing = [name for name in names if name not in state_dict]
    if missing:
        raise ValueError(
            f"{kind}: the state lacks {', '.join(map(repr, missing))}; it has {', '.join(map(repr, state_dict)) or 'nothing'}. "
            "Load the state of a scheduler of the same class"
        )


def simulated(scheduler: BaseParamScheduler, num_events: int) -> list[list[float]]:
    """Return a list ``[index, value, ...]`` for each of the next events."""
    return [[index, *_flat(scheduler.advance())] for index in range(num_events)]


def _flat(value: Any) -> list[float]:
    """Return a value as a flat list of numbers."""
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in _flat(item)]
    return [float(value) if hasattr(value, "item") else value]
