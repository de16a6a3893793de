"""Retention of the best or latest checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from operator import index
from typing import Any, NamedTuple

from glowplug_model_checkpoint.filenames import check_filename

__all__ = ["Item", "Retention", "item_from", "plain_number", "without"]


class Item(NamedTuple):
    """A retained checkpoint: its priority and its file name."""

    priority: float
    filename: str


class Retention:
    """Keeps the ``n_saved`` items with the highest priority.

    Args:
        n_saved: Number of items to keep; ``None`` keeps all.
        greater_or_equal: Of several items with equal priority, prefer the latest instead of the first.

    Raises:
        TypeError: If ``n_saved`` is not an integer.
        ValueError: If ``n_saved`` is below 1.

    Example:
        >>> best = Retention(n_saved=2)
        >>> for item in (Item(0.5, "a.pt"), Item(0.7, "b.pt"), Item(0.6, "c.pt")):
        ...     if best.admits(item.priority):
        ...         best.items = best.keep_with(item)
        >>> best.items
        (Item(priority=0.7, filename='b.pt'), Item(priority=0.6, filename='c.pt'))
    """

    def __init__(self, n_saved: int | None = 1, greater_or_equal: bool = False) -> None:
        if n_saved is not None and index(n_saved) < 1:
            raise ValueError(f"n_saved must be at least 1, or None to keep all checkpoints; got {n_saved!r}")
        self.n_saved = n_saved
        self.greater_or_equal = greater_or_equal
        # Ordered by time of save.
        self.items: tuple[Item, ...] = ()

    @property
    def last(self) -> Item | None:
        """The most recent item."""
        return self.items[-1] if self.items else None

    @property
    def best(self) -> Item | None:
        """The item with the highest priority; ``greater_or_equal`` decides between items of equal priority."""
        items = self.items[::-1] if self.greater_or_equal else self.items
        return max(items, key=_priority, default=None)

    def admits(self, priority: float) -> bool:
        """Return whether a new item of this priority would be retained."""
        if self.n_saved is None or len(self.items) < self.n_saved:
            return True
        # A crash can leave more than n_saved items; compare with the lowest of the n_saved best.
        lowest = sorted(map(_priority, self.items))[-self.n_saved]
        return priority > lowest or (self.greater_or_equal and priority == lowest)

    def keep_with(self, item: Item) -> tuple[Item, ...]:
        """Return the items to retain after a save; the new item replaces any item with the same file name."""
        others = without(self.items, item)
        if self.n_saved is not None:
            surplus = max(0, len(others) + 1 - self.n_saved)
            others = without(others, *sorted(others, key=_priority)[:surplus])
        return (*others, item)

    def state(self, *more: Item) -> list[tuple[float, str]]:
        """Return the retained items and the items in ``more``, as pairs of priority and file name."""
        return [(item.priority, item.filename) for item in (*without(self.items, *more), *more)]


def without(items: Iterable[Item], *others: Item) -> tuple[Item, ...]:
    """Return the items whose file names do not occur among ``others``."""
    names = {other.filename for other in others}
    return tuple(item for item in items if item.filename not in names)


def plain_number(what: str, value: object) -> Any:
    """Return a number as a Python int or float.

    ``torch.load(weights_only=True)`` accepts Python numbers, but not numpy scalars.

    Args:
        what: Name of the value in error messages.
        value: A real number.

    Raises:
        ValueError: If the value is not a real number.

    Example:
        >>> plain_number("the score", 3)
        3
    """
    if not isinstance(value, Real):
        raise ValueError(  # noqa: TRY004 - the type that ignite raises
            f"{what} must be a number, got {value!r} of type {type(value).__name__}; convert a tensor with .item()"
        )
    return int(value) if isinstance(value, Integral) else float(value)


def item_from(priority: object, filename: object) -> Item:
    """Create an item from a saved priority and a saved file name.

    Raises:
        TypeError: If the file name is not a string.
        ValueError: If the priority is not a finite number, or the file name is not safe.

    Example:
        >>> item_from(3, "model_3.pt")
        Item(priority=3, filename='model_3.pt')
    """
    number = plain_number("a priority", priority)
    if not math.isfinite(number):
        raise ValueError(f"the priority of {filename!r} must be finite; got {number}")
    return Item(number, check_filename(filename))


def _priority(item: Item) -> float:
    return item.priority
