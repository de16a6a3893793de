"""Checks of the options of FastaiLRFinder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

import torch

from glowplug.engine import check_function

StepMode: TypeAlias = Literal["exp", "linear"]
Rates: TypeAlias = float | Sequence[float]


@dataclass(frozen=True)
class Options:
    """The checked options of one search."""

    output_transform: Callable[[Any], Any]
    num_iter: int | None
    start_lrs: list[float]
    end_lrs: list[float]
    step_mode: StepMode
    smooth_f: float
    diverge_th: float

    def __post_init__(self) -> None:
        if not callable(self.output_transform):
            raise TypeError(
                f"FastaiLRFinder: output_transform must be a function of the output, got {self.output_transform!r}"
            )
        check_function(self.output_transform, f"FastaiLRFinder: output_transform {self.output_transform!r}")
        _check_num_iter(self.num_iter)
        if not 0 <= self.smooth_f < 1:
            raise ValueError(
                f"FastaiLRFinder: smooth_f must be at least 0 and less than 1, got {self.smooth_f!r}"
            )
        if not self.diverge_th >= 1:
            raise ValueError(f"FastaiLRFinder: diverge_th must be at least 1, got {self.diverge_th!r}")
        if self.step_mode not in get_args(StepMode):
            raise ValueError(f"FastaiLRFinder: step_mode must be 'exp' or 'linear', got {self.step_mode!r}")
        for start, end in zip(self.start_lrs, self.end_lrs, strict=True):
            if not start < end:
                raise ValueError(f"FastaiLRFinder: start_lr must be less than end_lr, got {start} and {end}")
            if self.step_mode == "exp" and start <= 0:
                raise ValueError(
                    f"FastaiLRFinder: start_lr must be greater than 0 with step_mode='exp', got {start}; pass start_lr, or use "
                    "step_mode='linear'"
                )

    def rates(self, number: int, total: int) -> list[float]:
        """Return the learning rate of each parameter group in one iteration.

        Args:
            number: Number of the iteration in the search, counted from 1.
            total: Number of iterations of the search.
        """
        pairs = zip(self.start_lrs, self.end_lrs, strict=True)
        if self.step_mode == "exp":
            return [start * (end / start) ** (number / total) for start, end in pairs]
        return [start + (end - start) * (number - 1) / total for start, end in pairs]


def optimizer_in(to_save: object) -> torch.optim.Optimizer:
    """Return the optimizer in ``to_save``, or raise an error if an object cannot be saved."""
    if not isinstance(to_save, Mapping):
        raise TypeError(
            f"FastaiLRFinder: to_save must be a mapping such as {{'model': model, 'optimizer': optimizer}}, got {to_save!r}"
        )
    for name, value in to_save.items():
        for method in ("state_dict", "load_state_dict"):
            if not hasattr(value, method):
                raise TypeError(f"FastaiLRFinder: to_save[{name!r}] needs a method {method}(), got {value!r}")
    if "optimizer" not in to_save:
        raise ValueError(
            f"FastaiLRFinder: to_save must have the key 'optimizer', got the keys {list(to_save)}"
        )
    optimizer = to_save["optimizer"]
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"FastaiLRFinder: to_save['optimizer'] must be a torch.optim.Optimizer, got {type(optimizer).__name__}"
        )
    return optimizer


def rates_of(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rates of the parameter groups."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> None:
    """Set the learning rates of the parameter groups."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], torch.Tensor):
            # Compiled optimizers read this tensor.
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def checked_rates(name: str, value: object, groups: int) -> list[float]:
    """Return one learning rate for each parameter group."""
    if isinstance(value, Real):
        return [float(value)] * groups
    if not isinstance(value, Sequence) or not all(isinstance(each, Real) for each in value):
        raise TypeError(f"FastaiLRFinder: {name} must be a number or a list of numbers, got {value!r}")
    if len(value) != groups:
        raise ValueError(
            f"FastaiLRFinder: {name} must have one value for each of the {groups} parameter groups of the optimizer, got {value!r}"
        )
    return [float(each) for each in value]


def _check_num_iter(value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Integral):
        raise TypeError(f"FastaiLRFinder: num_iter must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"FastaiLRFinder: num_iter must be at least 1, got {value!r}")
