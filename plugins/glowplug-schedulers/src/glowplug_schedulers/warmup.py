"""Schedules that begin with a linear warm-up."""

from __future__ import annotations

from collections.abc import MutableSequence
from numbers import Integral
from typing import TYPE_CHECKING

from glowplug_schedulers.base import simulated
from glowplug_schedulers.composite import preserved
from glowplug_schedulers.concat import ConcatScheduler
from glowplug_schedulers.param_scheduler import ParamScheduler
from glowplug_schedulers.torch_scheduler import LRScheduler

if TYPE_CHECKING:
    import torch


class Warmup(ParamScheduler):
    """Handler that moves a parameter linearly to an end value, which may differ between parameter groups.

    Args:
        after: The scheduler that follows; it determines the parameter and the parameter groups.
        start_value: Value at the first event.
        end_values: Value of each parameter group at the last event.
        duration: Number of events, at least 2.
    """

    def __init__(
        self, after: ParamScheduler, start_value: float, end_values: list[float], duration: int
    ) -> None:
        super().__init__(after.optimizer, after.param_name, param_group_index=after.param_group_index)
        self.start_value = start_value
        self.end_values = end_values
        self.duration = duration

    def get_param(self) -> list[float] | float:
        """Return the value at the current event, or one value per parameter group."""
        progress = self.event_index / (self.duration - 1)
        values = [self.start_value + (end - self.start_value) * progress for end in self.end_values]
        return values if len(values) > 1 else values[0]


def create_lr_scheduler_with_warmup(
    lr_scheduler: ParamScheduler | torch.optim.lr_scheduler.LRScheduler,
    warmup_start_value: float,
    warmup_duration: int,
    warmup_end_value: float | None = None,
    save_history: bool = False,
    output_simulated_values: MutableSequence[list[float] | None] | None = None,
) -> ConcatScheduler:
    """Return a scheduler that begins with a linear warm-up of the learning rate, and then continues with another scheduler.

    The method is described in Goyal et al., *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour* (2017).

    Args:
        lr_scheduler: The scheduler that follows the warm-up: one from ``torch.optim.lr_scheduler``, or a :class:`ParamScheduler`.
        warmup_start_value: Learning rate at the first event.
        warmup_duration: Number of events up to the end value, at least 2.
        warmup_end_value: Learning rate at the end of the warm-up. Defaults to the current learning rate of each parameter group. If
            ``lr_scheduler`` begins with this value, the value is not repeated.
        save_history: Whether to append the learning rates to ``engine.state.param_history``. Defaults to ``False``.
        output_simulated_values: A list such as ``[None] * 100``. Each item is replaced by the list ``[index, value, ...]`` of an
            event.

    Returns:
        A scheduler to attach to the trainer.

    Raises:
        TypeError: If ``lr_scheduler`` is not such a scheduler, if ``warmup_duration`` is not an integer, or if
            ``output_simulated_values`` is not a list.
        ValueError: If ``warmup_duration`` is below 2.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        >>> values = [None] * 5
        >>> scheduler = create_lr_scheduler_with_warmup(decay, 0.0, 3, output_simulated_values=values)
        >>> values
        [[0, 0.0], [1, 0.5], [2, 1.0], [3, 0.5], [4, 0.25]]
    """
    from torch.optim import lr_scheduler as of_torch

    if isinstance(lr_scheduler, of_torch.LRScheduler):
        lr_scheduler = LRScheduler(lr_scheduler)
    if not isinstance(lr_scheduler, ParamScheduler):
        raise TypeError(
            "create_lr_scheduler_with_warmup: lr_scheduler must be a scheduler from torch.optim.lr_scheduler or a ParamScheduler, "
            f"got {lr_scheduler!r}"
        )
    _check_duration(warmup_duration)
    if not isinstance(output_simulated_values, (list, type(None))):
        raise TypeError(
            "create_lr_scheduler_with_warmup: output_simulated_values must be a list such as [None] * 100, got "
            f"{output_simulated_values!r}"
        )
    groups = lr_scheduler.optimizer_param_groups
    name = lr_scheduler.param_name
    end_values = [float(group[name]) if warmup_end_value is None else warmup_end_value for group in groups]
    first = lr_scheduler.get_param()
    repeats = (first if isinstance(first, list) else [first] * len(groups)) == end_values
    warmup = Warmup(lr_scheduler, warmup_start_value, end_values, warmup_duration)
    scheduler = ConcatScheduler([warmup, lr_scheduler], [warmup_duration - repeats], save_history)
    if output_simulated_values is not None:
        with preserved([scheduler]):
            output_simulated_values[:] = simulated(scheduler, len(output_simulated_values))
    return scheduler


def _check_duration(duration: object) -> None:
    if not isinstance(duration, Integral):
        raise TypeError(
            f"create_lr_scheduler_with_warmup: warmup_duration must be an integer, got {duration!r}"
        )
    if duration < 2:  # noqa: PLR2004 - the start and the end
        raise ValueError(
            f"create_lr_scheduler_with_warmup: warmup_duration must be at least 2, got {duration!r}"
        )
