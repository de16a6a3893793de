"""Times in the order in which they were measured, and their statistics."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import NamedTuple


class Statistics(NamedTuple):
    """Statistics of several times, in seconds.

    Args:
        total: The sum.
        minimum: The shortest time.
        min_index: Position of the shortest time, counted from 0.
        maximum: The longest time.
        max_index: Position of the longest time, counted from 0.
        mean: The mean.
        std: The standard deviation of the sample; ``None`` for a single time.
    """

    total: float
    minimum: float
    min_index: int
    maximum: float
    max_index: int
    mean: float
    std: float | None


def statistics_of(times: Sequence[float]) -> Statistics | None:
    """Return the statistics of times, or ``None`` if there are no times.

    Example:
        >>> statistics_of([2.0, 1.0, 3.0])
        Statistics(total=6.0, minimum=1.0, min_index=1, maximum=3.0, max_index=2, mean=2.0, std=1.0)
    """
    if not times:
        return None
    total, shortest, longest = math.fsum(times), min(times), max(times)
    mean = total / len(times)
    variance = math.fsum((time - mean) ** 2 for time in times) / max(len(times) - 1, 1)
    return Statistics(
        total=total,
        minimum=shortest,
        min_index=times.index(shortest),
        maximum=longest,
        max_index=times.index(longest),
        mean=mean,
        std=math.sqrt(variance) if len(times) > 1 else None,
    )


class Series:
    """Times of numbered events, in 16 bytes each.

    Attributes:
        numbers: The iteration or epoch of each time.
        seconds: The times.

    Example:
        >>> series = Series()
        >>> for number, seconds in ((1, 0.25), (2, 0.5), (2, 0.25)):
        ...     series.add(number, seconds)
        >>> series.by_number()
        {1: 0.25, 2: 0.75}
    """

    def __init__(self) -> None:
        self.numbers = array("q")
        self.seconds = array("d")

    def __len__(self) -> int:
        return len(self.seconds)

    def add(self, number: int, seconds: float) -> None:
        """Add a time; times in a row that have the same number are added up."""
        if self.numbers and self.numbers[-1] == number:
            self.seconds[-1] += seconds
        else:
            self.numbers.append(number)
            self.seconds.append(seconds)

    def by_number(self) -> dict[int, float]:
        """Return the last time of each number."""
        return dict(zip(self.numbers, self.seconds, strict=True))
