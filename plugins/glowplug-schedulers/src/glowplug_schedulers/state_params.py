"""Schedulers of attributes of an engine's state."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from glowplug import Events, RemovableEventHandle, RunStart
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_schedulers.base import BaseParamScheduler
from glowplug_schedulers.history import record
from glowplug_schedulers.piecewise import checked_milestones, interpolated


class StateParamScheduler(BaseParamScheduler):
    """Base class of handlers that set an attribute of ``engine.state`` at each event.

    Unlike a scheduler of an optimizer, the handler is called after the step by default, and counts the event before it computes the
    value: the first value has the index 1. A subclass defines :meth:`get_param`, which computes the value from ``event_index``.

    Args:
        param_name: Name of the attribute.
        save_history: Whether to append each value to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        create_new: If ``True``, ``attach()`` creates the attribute with the value ``None``, and raises an error if it exists. If
            ``False`` (default), ``attach()`` uses an existing attribute, and warns if it has to create one.

    Example:
        >>> from glowplug import Engine
        >>> class Countdown(StateParamScheduler):
        ...     def get_param(self):
        ...         return 10 - self.event_index
        >>> trainer = Engine(lambda engine, batch: print(engine.state.seconds))
        >>> handle = Countdown("seconds", create_new=True).attach(trainer)
        >>> _ = trainer.run([0, 0, 0])
        None
        9
        8
    """

    default_event: AnyEvent = Events.ITERATION_COMPLETED

    def __init__(self, param_name: str, save_history: bool = False, create_new: bool = False) -> None:
        super().__init__(param_name, save_history)
        self.create_new = create_new

    def attach(self, engine: EngineProtocol, event_name: AnyEvent | None = None) -> RemovableEventHandle:
        """Call the handler at an event, and create the attribute if the state does not have it.

        If a run starts from a loaded state, the attribute gets its last value at the start of the run.

        Args:
            engine: The engine that fires the event.
            event_name: The event. Defaults to ``ITERATION_COMPLETED``.

        Returns:
            A handle that detaches the handler.

        Raises:
            ValueError: If ``create_new`` is true, but the attribute exists.

        Warns:
            GlowplugWarning: If ``create_new`` is false, but the attribute does not exist.
        """
        kind, name = type(self).__name__, self.param_name
        exists = hasattr(engine.state, name)
        if exists and self.create_new:
            raise ValueError(
                f"{kind}: engine.state already has the attribute {name!r}; another handler may use it. Choose another "
                "param_name, or pass create_new=False"
            )
        handle = RemovableEventHandle.join(
            super().attach(engine, event_name), engine.add_event_handler(Events.STARTED, self._restore)
        )
        if not exists:
            setattr(engine.state, name, None)
            if not self.create_new:
                warnings.warn(
                    f"{kind} creates the attribute {name!r} of engine.state, which did not exist; pass create_new=True if this is "
                    "intended",
                    GlowplugWarning,
                    stacklevel=2,
                )
        return handle

    @abstractmethod
    def get_param(self) -> Sequence[float] | float:
        """Return the value for the current ``event_index``, which starts at 1."""

    def __call__(self, engine: EngineProtocol, name: str | None = None) -> None:
        """Set the attribute to its next value.

        Args:
            engine: The engine whose state has the attribute.
            name: Name of the attribute in the history. Defaults to ``param_name``.
        """
        if self.is_repeated(engine):
            return
        value = self.advance()
        setattr(engine.state, self.param_name, value)
        if self.save_history:
            record(engine, name or self.param_name, value)

    def advance(self) -> Any:
        """Count an event, and return the value at the new index."""
        self.event_index += 1
        return self.get_param()

    def _restore(self, engine: EngineProtocol) -> None:
        """Set the attribute to its last value when a run starts from a loaded state."""
        if engine.state.run_start is RunStart.LOADED and self.event_index:
            setattr(engine.state, self.param_name, self.get_param())


class LambdaStateScheduler(StateParamScheduler):
    """Set an attribute of ``engine.state`` to the value of a function.

    Args:
        lambda_obj: Function that takes the index of the event, starting at 1, and returns the value. The function is not part of the
            handler's state.
        param_name: Name of the attribute.
        save_history: Whether to append each value to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        create_new: Whether the attribute is new; see :class:`StateParamScheduler`. Defaults to ``False``.

    Raises:
        ValueError: If ``lambda_obj`` is not callable.

    Example:
        >>> LambdaStateScheduler.simulate_values(
        ...     3, lambda_obj=lambda event: 0.5**event, param_name="temperature"
        ... )
        [[0, 0.5], [1, 0.25], [2, 0.125]]
    """

    def __init__(
        self,
        lambda_obj: Callable[[int], list[float] | float],
        param_name: str,
        save_history: bool = False,
        create_new: bool = False,
    ) -> None:
        super().__init__(param_name, save_history, create_new)
        if not callable(lambda_obj):
            raise ValueError(  # noqa: TRY004 - ignite's error
                f"LambdaStateScheduler: lambda_obj must be a function of the event index, got {lambda_obj!r}"
            )
        self.lambda_obj = lambda_obj

    def get_param(self) -> list[float] | float:
        """Return the value of the function."""
        return self.lambda_obj(self.event_index)


class PiecewiseLinearStateScheduler(StateParamScheduler):
    """Move an attribute of ``engine.state`` linearly from milestone to milestone.

    Args:
        milestones_values: Pairs ``(index, value)`` in ascending order; the first event has the index 1. Before the first and after
            the last milestone, the value is constant. If two milestones are equal, the value jumps.
        param_name: Name of the attribute.
        save_history: Whether to append each value to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        create_new: Whether the attribute is new; see :class:`StateParamScheduler`. Defaults to ``False``.

    Raises:
        TypeError: If ``milestones_values`` is not a sequence, or if a milestone is not an integer.
        ValueError: If there are no milestones, if an item is not a pair, or if the milestones decrease.

    Example:
        >>> milestones = [(0, 1.0), (2, 0.0)]
        >>> PiecewiseLinearStateScheduler.simulate_values(3, milestones_values=milestones, param_name="p")
        [[0, 0.5], [1, 0.0], [2, 0.0]]
    """

    def __init__(
        self,
        milestones_values: Sequence[tuple[int, float]],
        param_name: str,
        save_history: bool = False,
        create_new: bool = False,
    ) -> None:
        super().__init__(param_name, save_history, create_new)
        self.milestones, self.values = checked_milestones(self, milestones_values)
        self._state_attrs += ["values", "milestones"]

    def get_param(self) -> float:
        """Return the value for the current event."""
        return interpolated(self.milestones, self.values, self.event_index)


class ExpStateScheduler(StateParamScheduler):
    """Decay an attribute of ``engine.state`` by ``gamma`` at each event.

    At the n-th event, the value is ``initial_value * gamma**n``.

    Args:
        initial_value: Value before the first decay.
        gamma: Factor by which the value changes at each event.
        param_name: Name of the attribute.
        save_history: Whether to append each value to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        create_new: Whether the attribute is new; see :class:`StateParamScheduler`. Defaults to ``False``.

    Example:
        >>> ExpStateScheduler.simulate_values(3, initial_value=1.0, gamma=0.5, param_name="temperature")
        [[0, 0.5], [1, 0.25], [2, 0.125]]
    """

    def __init__(
        self,
        initial_value: float,
        gamma: float,
        param_name: str,
        save_history: bool = False,
        create_new: bool = False,
    ) -> None:
        super().__init__(param_name, save_history, create_new)
        self.initial_value = initial_value
        self.gamma = gamma
        self._state_attrs += ["initial_value", "gamma"]

    def _steps(self) -> int:
        """Return how often the value has been multiplied."""
        return self.event_index

    def get_param(self) -> float:
        """Return the value for the current event."""
        return self.initial_value * self.gamma ** self._steps()


class StepStateScheduler(ExpStateScheduler):
    """Decay an attribute of ``engine.state`` by ``gamma`` every ``step_size`` events.

    At the n-th event, the value is ``initial_value * gamma ** (n // step_size)``.

    Args:
        initial_value: Value before the first decay.
        gamma: Factor by which the value changes every ``step_size`` events.
        step_size: Number of events between two changes.
        param_name: Name of the attribute.
        save_history: Whether to append each value to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        create_new: Whether the attribute is new; see :class:`StateParamScheduler`. Defaults to ``False``.

    Example:
        >>> options = {"initial_value": 1.0, "gamma": 0.5, "step_size": 2, "param_name": "temperature"}
        >>> StepStateScheduler.simulate_values(4, **options)
        [[0, 1.0], [1, 0.5], [2, 0.5], [3, 0.25]]
    """

    def __init__(
        self,
        initial_value: float,
        gamma: float,
        step_size: int,
        param_name: str,
        save_history: bool = False,
        create_new: bool = False,
    ) -> None:
        super().__init__(initial_value, gamma, param_name, save_history, create_new)
        self.step_size = step_size
        self._state_attrs += ["step_size"]

    def _steps(self) -> int:
        return self.event_index // self.step_size


class MultiStepStateScheduler(ExpStateScheduler):
    """Decay an attribute of ``engine.state`` by ``gamma`` at each milestone.

    The value is ``initial_value * gamma**m``, where m is the number of milestones that have been reached.

    Args:
        initial_value: Value before the first milestone.
        gamma: Factor by which the value changes at each milestone.
        milestones: Indices of events in ascending order; the first event has the index 1.
        param_name: Name of the attribute.
        save_history: Whether to append each value to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        create_new: Whether the attribute is new; see :class:`StateParamScheduler`. Defaults to ``False``.

    Example:
        >>> options = {"initial_value": 1.0, "gamma": 0.5, "milestones": [2, 3], "param_name": "temperature"}
        >>> MultiStepStateScheduler.simulate_values(4, **options)
        [[0, 1.0], [1, 0.5], [2, 0.25], [3, 0.25]]
    """

    def __init__(
        self,
        initial_value: float,
        gamma: float,
        milestones: Sequence[int],
        param_name: str,
        save_history: bool = False,
        create_new: bool = False,
    ) -> None:
        super().__init__(initial_value, gamma, param_name, save_history, create_new)
        self.milestones = list(milestones)
        self._state_attrs += ["milestones"]

    def _steps(self) -> int:
        return bisect_right(self.milestones, self.event_index)
