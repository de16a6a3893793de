"""Rule that decides whether a score is an improvement."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Mode = Literal["max", "min"]
ThresholdMode = Literal["abs", "rel"]


def _check_threshold_mode(value: object) -> None:
    if value not in ("abs", "rel"):
        raise ValueError(f"EarlyStopping: threshold_mode must be 'abs' or 'rel', got {value!r}")


def _check_threshold(value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"EarlyStopping: threshold must be finite and at least 0, got {value!r}")


def _check_mode(value: object) -> None:
    if value not in ("max", "min"):
        raise ValueError(f"EarlyStopping: mode must be 'max' or 'min', got {value!r}")


@dataclass
class Improvement:
    """Rule that decides whether a score is an improvement.

    Each option can be changed at any time; an invalid value raises an error.

    Args:
        threshold: A score is an improvement if it beats the best score by more than this value.
        threshold_mode: ``"abs"`` if the threshold is an absolute difference, ``"rel"`` if the threshold is a fraction of the best
            score's absolute value.
        mode: ``"max"`` if a larger score is better, ``"min"`` if a smaller score is better.

    Raises:
        ValueError: If the threshold is negative or not finite, or if a mode is unknown.

    Example:
        >>> smaller_by_a_tenth = Improvement(0.1, "rel", "min")
        >>> smaller_by_a_tenth.is_better(-1.05, -1.0), smaller_by_a_tenth.is_better(-1.2, -1.0)
        (False, True)
    """

    threshold: float
    threshold_mode: ThresholdMode
    mode: Mode

    _checks: ClassVar[dict[str, Callable[[Any], object]]] = {
        "threshold": _check_threshold,
        "threshold_mode": _check_threshold_mode,
        "mode": _check_mode,
    }

    def __setattr__(self, name: str, value: object) -> None:
        self._checks[name](value)
        super().__setattr__(name, value)

    def is_worthless(self, score: float) -> bool:
        """Return whether a score is NaN or the worst possible value for the mode."""
        return math.isnan(score) or score == (-math.inf if self.mode == "max" else math.inf)

    def is_better(self, score: float, best: float) -> bool:
        """Return whether a score beats the best one by more than the threshold."""
        margin = self.threshold * (abs(best) if self.threshold_mode == "rel" else 1.0)
        return score > best + margin if self.mode == "max" else score < best - margin

    def better(self, score: float, best: float) -> float:
        """Return the better of two scores, ignoring the threshold."""
        return max(score, best) if self.mode == "max" else min(score, best)
