"""The best value of a metric so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

Mode = Literal["max", "min"]


class Best:
    """Best value of a metric over the epochs of a run. NaN is never the best value.

    Args:
        metric: Name of the metric.
        mode: ``"max"`` if a larger value is better, ``"min"`` if a smaller value is better.

    Attributes:
        value: The best value; ``None`` before the first one.
        epoch: Epoch of the best value.
        is_known: Whether this run has had a value.

    Example:
        >>> best = Best("loss", "min")
        >>> [best.follow(value, epoch) for epoch, value in enumerate([0.5, 0.7, 0.4], 1)]
        [True, False, True]
        >>> best.value, best.epoch
        (0.4, 3)
    """

    def __init__(self, metric: str, mode: Mode) -> None:
        self.metric = metric
        self.mode = mode
        self.reset()

    def reset(self) -> None:
        """Forget the best value."""
        self.value: float | None = None
        self.epoch = 0
        self.is_known = False

    def follow(self, value: float, epoch: int) -> bool:
        """Compare the value of an epoch with the best one, and return whether it is better."""
        self.is_known = True
        if math.isnan(value):
            return False
        is_better = self.value is None or (value > self.value if self.mode == "max" else value < self.value)
        if is_better:
            self.value, self.epoch = value, epoch
        return is_better

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and its epoch."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the best value and its epoch."""
        self.value, self.epoch = state_dict["value"], state_dict["epoch"]
