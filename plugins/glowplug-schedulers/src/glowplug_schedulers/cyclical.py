"""Schedulers whose values repeat in cycles."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

from glowplug_schedulers.param_scheduler import HasParamGroups, ParamScheduler


class CyclicalScheduler(ParamScheduler):
    """Base class of schedulers whose values repeat in cycles.

    A subclass defines :meth:`get_param`, which computes the value from ``event_index``, the number of events since the start of
    the cycle, and ``cycle_size``. With ``warmup_duration``, the value moves linearly from the end value to the next start value
    after each cycle.

    Args:
        optimizer: The optimizer, or any object with ``param_groups``.
        param_name: Name of the parameter in the parameter groups, such as ``"lr"``.
        start_value: Value at the start of a cycle.
        end_value: Value in the middle of a cycle, or at its end, as the subclass defines.
        cycle_size: Number of events in the first cycle, at least 2.
        cycle_mult: Factor by which the cycle size changes after each cycle. Defaults to 1.
        start_value_mult: Factor by which the start value changes after each cycle. Defaults to 1.
        end_value_mult: Factor by which the end value changes after each cycle. Defaults to 1.
        warmup_duration: Number of events between two cycles, in which the value moves linearly to the next start value.
            ``cycle_mult`` applies to this number too. Defaults to 0.
        save_history: Whether to append the values to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        param_group_index: Index of the only parameter group to change. By default, all groups are changed.

    Attributes:
        cycle: Number of completed cycles.

    Raises:
        ValueError: If ``cycle_size`` is below 2, or if ``warmup_duration`` is negative.

    Example:
        >>> class Sawtooth(CyclicalScheduler):
        ...     def get_param(self):
        ...         return self.start_value + self.event_index
        >>> Sawtooth.simulate_values(4, param_name="lr", start_value=1.0, end_value=0.0, cycle_size=2)
        [[0, 1.0], [1, 2.0], [2, 1.0], [3, 2.0]]
    """

    def __init__(
        self,
        optimizer: HasParamGroups,
        param_name: str,
        start_value: float,
        end_value: float,
        cycle_size: int,
        cycle_mult: float = 1.0,
        start_value_mult: float = 1.0,
        end_value_mult: float = 1.0,
        warmup_duration: int = 0,
        save_history: bool = False,
        param_group_index: int | None = None,
    ) -> None:
        super().__init__(optimizer, param_name, save_history, param_group_index)
        if cycle_size < 2:  # noqa: PLR2004 - a cycle has a start and an end
            raise ValueError(f"{type(self).__name__}: cycle_size must be at least 2, got {cycle_size!r}")
        if warmup_duration < 0:
            raise ValueError(
                f"{type(self).__name__}: warmup_duration must not be negative, got {warmup_duration!r}"
            )
        self.start_value = start_value
        self.end_value = end_value
        self.cycle_size = cycle_size
        self.cycle_mult = cycle_mult
        self.start_value_mult = start_value_mult
        self.end_value_mult = end_value_mult
        self.warmup_duration = warmup_duration
        self.cycle = 0
        self._state_attrs += [
            "start_value",
            "end_value",
            "cycle_size",
            "cycle_mult",
            "cycle",
            "start_value_mult",
            "end_value_mult",
            "warmup_duration",
        ]

    @abstractmethod
    def get_param(self) -> float:
        """Return the value ``event_index`` events after the start of the cycle."""

    @property
    def total_cycle_size(self) -> int:
        """Number of events in the cycle, and between this cycle and the next."""
        return self.cycle_size + self.warmup_duration

    def advance(self) -> Any:
        """Count an event, begin a new cycle if it is due, and return the value for this event."""
        if self.event_index >= self.total_cycle_size:
            self._begin_cycle()
        after = self.event_index - self.cycle_size
        if after < 0:
            return super().advance()
        self.event_index += 1
        start = self.start_value * self.start_value_mult
        return self.end_value + (start - self.end_value) * after / self.warmup_duration

    def _begin_cycle(self) -> None:
        self.event_index = 0
        self.cycle += 1
        self.cycle_size = int(self.cycle_size * self.cycle_mult)
        self.warmup_duration = int(self.warmup_duration * self.cycle_mult)
        self.start_value *= self.start_value_mult
        self.end_value *= self.end_value_mult


class LinearCyclicalScheduler(CyclicalScheduler):
    """Move a parameter linearly from the start value to the end value and back, in each cycle.

    The method is described in Smith, *Cyclical Learning Rates for Training Neural Networks* (2017).

    Args:
        optimizer: The optimizer, or any object with ``param_groups``.
        param_name: Name of the parameter in the parameter groups, such as ``"lr"``.
        start_value: Value at the start of a cycle.
        end_value: Value in the middle of a cycle or, with ``monotonic``, at its end.
        cycle_size: Number of events in the first cycle, at least 2.
        cycle_mult: Factor by which the cycle size changes after each cycle. Defaults to 1.
        start_value_mult: Factor by which the start value changes after each cycle. Defaults to 1.
        end_value_mult: Factor by which the end value changes after each cycle. Defaults to 1.
        warmup_duration: Number of events between two cycles, in which the value moves linearly to the next start value. Requires
            ``monotonic``. Defaults to 0.
        save_history: Whether to append the values to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        param_group_index: Index of the only parameter group to change. By default, all groups are changed.
        monotonic: Whether the value moves only from the start value to the end value, and not back. Defaults to ``False``.

    Raises:
        ValueError: If ``cycle_size`` is below 2, if ``warmup_duration`` is negative, or if ``warmup_duration`` is given without
            ``monotonic``.

    Example:
        >>> options = {"param_name": "lr", "start_value": 1.0, "end_value": 0.0, "cycle_size": 4}
        >>> [value for _, value in LinearCyclicalScheduler.simulate_values(6, **options)]
        [1.0, 0.5, 0.0, 0.5, 1.0, 0.5]
        >>> [value for _, value in LinearCyclicalScheduler.simulate_values(6, monotonic=True, **options)]
        [1.0, 0.75, 0.5, 0.25, 1.0, 0.75]
    """

    def __init__(
        self,
        optimizer: HasParamGroups,
        param_name: str,
        start_value: float,
        end_value: float,
        cycle_size: int,
        cycle_mult: float = 1.0,
        start_value_mult: float = 1.0,
        end_value_mult: float = 1.0,
        warmup_duration: int = 0,
        save_history: bool = False,
        param_group_index: int | None = None,
        *,
        monotonic: bool = False,
    ) -> None:
        super().__init__(
            optimizer,
            param_name,
            start_value,
            end_value,
            cycle_size,
            cycle_mult,
            start_value_mult,
            end_value_mult,
            warmup_duration,
            save_history,
            param_group_index,
        )
        if warmup_duration and not monotonic:
            raise ValueError(
                "LinearCyclicalScheduler: warmup_duration requires monotonic=True, because without it, each cycle ends at the start "
                "value"
            )
        self.monotonic = monotonic

    def get_param(self) -> float:
        """Return the value at the current position in the cycle."""
        progress = self.event_index / self.cycle_size
        part = progress if self.monotonic else 1 - abs(1 - 2 * progress)
        return self.start_value + (self.end_value - self.start_value) * part


class CosineAnnealingScheduler(CyclicalScheduler):
    """Anneal a parameter from the start value to the end value along half a cosine wave, in each cycle.

    Each cycle begins again at the start value. Loshchilov and Hutter describe these warm restarts in *SGDR: Stochastic Gradient
    Descent with Warm Restarts* (2017).

    The arguments and exceptions are the same as for :class:`CyclicalScheduler`. The end value is the value at the end of a cycle.

    Example:
        >>> options = {"param_name": "lr", "start_value": 1.0, "end_value": 0.0, "cycle_size": 4}
        >>> [round(value, 3) for _, value in CosineAnnealingScheduler.simulate_values(6, **options)]
        [1.0, 0.854, 0.5, 0.146, 1.0, 0.854]
    """

    def get_param(self) -> float:
        """Return the value at the current position in the cycle."""
        wave = (1 + math.cos(math.pi * self.event_index / self.cycle_size)) / 2
        return self.end_value + (self.start_value - self.end_value) * wave
