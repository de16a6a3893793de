"""Reasons to stop a run, and the rule that decides whether one of them applies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from numbers import Integral

from glowplug_early_stopping.improvement import Mode


class StopReason(Enum):
    """Why EarlyStopping stopped a run.

    Example:
        >>> StopReason.PATIENCE.value
        'patience exhausted'
    """

    PATIENCE = "patience exhausted"
    """``patience`` evaluations in a row without an improvement."""
    STOPPING_THRESHOLD = "stopping threshold reached"
    """The score reached ``stopping_threshold``."""
    DIVERGENCE = "score diverged"
    """The score was worse than ``divergence_threshold``."""
    NOT_FINITE = "score not finite"
    """The score was NaN or infinite, with ``check_finite``."""


def _checked_threshold(name: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise ValueError(f"EarlyStopping: {name} must be finite, or None, got {value!r}")


def _check_evaluations(value: object) -> None:
    if not isinstance(value, Integral) or value < 0:
        raise ValueError(f"EarlyStopping: min_evaluations must be an integer of at least 0, got {value!r}")


@dataclass
class Limits:
    """Scores at which a run stops, whatever the patience is.

    Args:
        stopping_threshold: The run stops when the score reaches this value; ``None`` means no such value.
        divergence_threshold: The run stops when the score is worse than this value; ``None`` means no such value.
        check_finite: Whether the run stops when the score is NaN or infinite.
        min_evaluations: Before this number of evaluations, neither the patience nor the divergence threshold stops the run.

    Each option can be changed at any time; an invalid value raises an error.

    Raises:
        ValueError: If a threshold is not finite, or ``min_evaluations`` is not an integer of at least 0.

    Example:
        >>> limits = Limits(stopping_threshold=0.95)
        >>> limits.reason(0.97, "max", evaluations=1, is_exhausted=False)
        <StopReason.STOPPING_THRESHOLD: 'stopping threshold reached'>
    """

    stopping_threshold: float | None = None
    divergence_threshold: float | None = None
    check_finite: bool = False
    min_evaluations: int = 0

    def __setattr__(self, name: str, value: object) -> None:
        if name == "min_evaluations":
            _check_evaluations(value)
        elif name != "check_finite":
            _checked_threshold(name, value)  # type: ignore[arg-type]  # the other options are thresholds
        super().__setattr__(name, value)

    def reason(self, score: float, mode: Mode, *, evaluations: int, is_exhausted: bool) -> StopReason | None:
        """Return why the run stops after an evaluation, or ``None`` if it continues.

        Args:
            score: The score of the evaluation.
            mode: Whether a larger or a smaller score is better.
            evaluations: Number of evaluations, including this one.
            is_exhausted: Whether the patience is exhausted.
        """
        if self.check_finite and not math.isfinite(score):
            return StopReason.NOT_FINITE
        sign = 1 if mode == "max" else -1
        if self.stopping_threshold is not None and sign * score >= sign * self.stopping_threshold:
            return StopReason.STOPPING_THRESHOLD
        if evaluations < self.min_evaluations:
            return None
        if self.divergence_threshold is not None and sign * score < sign * self.divergence_threshold:
            return StopReason.DIVERGENCE
        return StopReason.PATIENCE if is_exhausted else None
