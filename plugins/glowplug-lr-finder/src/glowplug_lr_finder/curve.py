"""The curve of the loss over the learning rate."""

from __future__ import annotations

from collections.abc import Sequence

_FEWEST = 3


def steepest(losses: Sequence[float]) -> int:
    """Return the index at which the loss falls fastest, before its minimum.

    Args:
        losses: The smoothed losses, in the order of the learning rates.

    Raises:
        RuntimeError: If the loss reaches its minimum within the first two values.

    Example:
        >>> steepest([5.0, 4.9, 3.0, 1.5, 1.4, 8.0])
        2
    """
    values = [float(loss) for loss in losses]
    # Beyond the minimum, the loss rises.
    lowest = min(range(len(values)), key=values.__getitem__) if values else 0
    if lowest + 1 < _FEWEST:
        raise RuntimeError(
            "FastaiLRFinder: there is no suggestion, because the loss does not fall before it rises; decrease start_lr, increase "
            "end_lr, or look at plot(display_suggestion=False)"
        )
    return min(range(1, lowest), key=lambda index: values[index + 1] - values[index - 1])
