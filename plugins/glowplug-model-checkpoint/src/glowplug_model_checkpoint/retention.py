"""Retention: which checkpoints are kept, and which has to go for a better one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from operator import index
from typing import Any, NamedTuple

from glowplug_model_checkpoint.filenames import check_filename

__all__ = ["Item", "Retention", "item_from", "plain_number", "without"]


class Item(NamedTuple):
    """One kept checkpoint: what it is ranked by, and its file name."""

    priority: float
    filename: str


class Retention:
    """Keeps the ``n_saved`` items of the highest priority.

    Args:
        n_saved: how many; ``None``: all.
        greater_or_equal: of equal priorities prefer the latest instead of the first.

    Raises:
        TypeError: ``n_saved`` is no integer.
        ValueError: ``n_saved`` is below 1.

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
            raise ValueError(
                f"n_saved is how many checkpoints are kept: at least 1, or None for all; got {n_saved!r}"
            )
        self.n_saved = n_saved
        self.greater_or_equal = greater_or_equal
        self.items: tuple[Item, ...] = ()  # in the order of their saves

    @property
    def last(self) -> Item | None:
        """The most recent one."""
        return self.items[-1] if self.items else None

    @property
    def best(self) -> Item | None:
        """The one with the highest priority; of equal ones the preferred."""
        items = self.items[::-1] if self.greater_or_equal else self.items
        return max(items, key=_priority, default=None)

    def admits(self, priority: float) -> bool:
        """Return whether an item of this priority is to be kept."""
        if self.n_saved is None or len(self.items) < self.n_saved:
            return True
        lowest = sorted(map(_priority, self.items))[-self.n_saved]  # a crash can leave more than n_saved
        return priority > lowest or (self.greater_or_equal and priority == lowest)

    def keep_with(self, item: Item) -> tuple[Item, ...]:
        """Return what is kept once an item is saved: it, and the best of the others; one of its name is replaced."""
        others = without(self.items, item)
        if self.n_saved is not None:
            surplus = max(0, len(others) + 1 - self.n_saved)
            others = without(others, *sorted(others, key=_priority)[:surplus])
        return (*others, item)

    def state(self, *more: Item) -> list[tuple[float, str]]:
        """Return the items, and further ones, as plain pairs."""
        return [(item.priority, item.filename) for item in (*without(self.items, *more), *more)]


def without(items: Iterable[Item], *others: Item) -> tuple[Item, ...]:
    """Return the items under other file names, in their order."""
    names = {other.filename for other in others}
    return tuple(item for item in items if item.filename not in names)


def plain_number(what: str, value: object) -> Any:
    """Return a number as a plain Python one, which any loader of checkpoints takes.

    Raises:
        ValueError: not a number.

    Example:
        >>> plain_number("the score", 3)
        3
    """
    if not isinstance(value, Real):
        raise ValueError(  # noqa: TRY004 - the type that ignite raises
            f"{what} must be a number, got {value!r} of type {type(value).__name__}; take .item() of a tensor"
        )
    return int(value) if isinstance(value, Integral) else float(value)


def item_from(priority: object, filename: object) -> Item:
    """Return a saved pair as an item.

    Raises:
        TypeError, ValueError: the priority is no finite number, or the name leads out of its folder.

    Example:
        >>> item_from(3, "model_3.pt")
        Item(priority=3, filename='model_3.pt')
    """
    number = plain_number("a priority", priority)
    if not math.isfinite(number):
        raise ValueError(f"the priority of {filename!r} is {number}")
    return Item(number, check_filename(filename))


def _priority(item: Item) -> float:
    return item.priority
