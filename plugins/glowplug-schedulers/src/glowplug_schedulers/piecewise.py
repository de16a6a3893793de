"""Piecewise linear values, and the scheduler that sets a parameter of an optimizer to them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from glowplug_schedulers.param_scheduler import HasParamGroups, ParamScheduler


def checked_milestones(owner: object, milestones_values: Any) -> tuple[list[int], list[float]]:
    """Return the milestones and their values, or raise an error.

    Raises:
        TypeError: If the argument is not a sequence, or if a milestone is not an integer.
        ValueError: If there are no milestones, if an item is not a pair, or if the milestones decrease.
    """
    name = type(owner).__name__
    if not isinstance(milestones_values, Sequence):
        raise TypeError(f"{name}: milestones_values must be a list of pairs, got {milestones_values!r}")
    if not milestones_values or not all(
        isinstance(pair, Sequence) and len(pair) == len(("milestone", "value")) for pair in milestones_values
    ):
        raise ValueError(
            f"{name}: milestones_values must be a list of pairs (milestone, value), got {milestones_values!r}"
        )
    milestones = [milestone for milestone, _ in milestones_values]
    for milestone in milestones:
        if not isinstance(milestone, Integral):
            raise TypeError(f"{name}: a milestone must be an integer, got {milestone!r}")
    if milestones != sorted(milestones):
        raise ValueError(f"{name}: the milestones must not decrease, got {milestones}")
    return milestones, [value for _, value in milestones_values]


def interpolated(milestones: Sequence[int], values: Sequence[float], index: int) -> float:
    """Return the value at an index, a float: linear between milestones and constant outside.

    Example:
        >>> [interpolated([2, 4], [1.0, 0.0], index) for index in range(6)]
        [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    after = bisect_right(milestones, index)
    if after in {0, len(milestones)}:
        return float(values[max(after - 1, 0)])
    left, right = milestones[after - 1], milestones[after]
    return values[after - 1] + (values[after] - values[after - 1]) * (index - left) / (right - left)


class PiecewiseLinear(ParamScheduler):
    """Move a parameter linearly from milestone to milestone.

    Args:
        optimizer: The optimizer, or any object with ``param_groups``.
        param_name: Name of the parameter in the parameter groups, such as ``"lr"``.
        milestones_values: Pairs ``(index, value)`` in ascending order; the first event has the index 0. Before the first and after
            the last milestone, the value is constant. If two milestones are equal, the value jumps.
        save_history: Whether to append the values to ``engine.state.param_history[param_name]``. Defaults to ``False``.
        param_group_index: Index of the only parameter group to change. By default, all groups are changed.

    Raises:
        TypeError: If ``milestones_values`` is not a sequence, or if a milestone is not an integer.
        ValueError: If there are no milestones, if an item is not a pair, or if the milestones decrease.

    Example:
        >>> from glowplug import Engine
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> trainer = Engine(lambda engine, batch: print(optimizer.param_groups[0]["lr"]))
        >>> handle = PiecewiseLinear(optimizer, "lr", [(1, 0.5), (3, 0.1)]).attach(trainer)
        >>> _ = trainer.run([0] * 5)
        0.5
        0.5
        0.3
        0.1
        0.1
    """

    def __init__(
        self,
        optimizer: HasParamGroups,
        param_name: str,
        milestones_values: Sequence[tuple[int, float]],
        save_history: bool = False,
        param_group_index: int | None = None,
    ) -> None:
        super().__init__(optimizer, param_name, save_history, param_group_index)
        self.milestones, self.values = checked_milestones(self, milestones_values)
        self._state_attrs += ["values", "milestones"]

    def get_param(self) -> float:
        """Return the value for the current event."""
        return interpolated(self.milestones, self.values, self.event_index)
