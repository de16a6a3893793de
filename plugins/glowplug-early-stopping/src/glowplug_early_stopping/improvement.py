"""When a score counts as better than the best one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Mode = Literal["max", "min"]
ThresholdMode = Literal["abs", "rel"]


def checked_threshold_mode(value: object) -> ThresholdMode:
    """Return a threshold mode as it is.

    Raises:
        ValueError: neither ``"abs"`` nor ``"rel"``.
    """
    if value not in ("abs", "rel"):
        raise ValueError(f"EarlyStopping: threshold_mode must be 'abs' or 'rel', got {value!r}")
    return value


@dataclass
class Improvement:
    """What a score has to beat.

    Args:
        threshold: by how much a score has to be better than the best one; equal is not better.
        threshold_mode: ``"abs"``: by the threshold itself; ``"rel"``: by that share of the best score's size.
        mode: whether the larger or the smaller score is the better one.

    Raises:
        ValueError: a threshold that is negative or not finite, or another mode.

    Example:
        >>> smaller_by_a_tenth = Improvement(0.1, "rel", "min")
        >>> smaller_by_a_tenth.is_better(-1.05, -1.0), smaller_by_a_tenth.is_better(-1.2, -1.0)
        (False, True)
    """

    threshold: float
    threshold_mode: ThresholdMode
    mode: Mode

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < math.inf:
            raise ValueError(
                f"EarlyStopping: threshold must be a number of at least 0, got {self.threshold!r}"
            )
        checked_threshold_mode(self.threshold_mode)
        if self.mode not in ("max", "min"):
            raise ValueError(f"EarlyStopping: mode must be 'max' or 'min', got {self.mode!r}")

    def is_worthless(self, score: float) -> bool:
        """Return whether a score can never be the best: NaN, or the worst infinity."""
        return math.isnan(score) or score == (-math.inf if self.mode == "max" else math.inf)

    def is_better(self, score: float, best: float) -> bool:
        """Return whether a score beats the best one by more than the threshold."""
        margin = self.threshold * (abs(best) if self.threshold_mode == "rel" else 1.0)
        return score > best + margin if self.mode == "max" else score < best - margin

    def better(self, score: float, best: float) -> float:
        """Return the better one of two scores, whatever the threshold."""
        return max(score, best) if self.mode == "max" else min(score, best)
