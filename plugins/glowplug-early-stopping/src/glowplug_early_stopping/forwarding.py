"""Attributes that forward to other attributes."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Generic, TypeVar, cast, overload

T = TypeVar("T")


class Forwarded(Generic[T]):
    """Attribute that forwards reads and writes to another attribute of the same object or of one of its parts.

    Args:
        target: The other attribute, such as ``"threshold"`` or ``"improvement.threshold"``.

    Example:
        >>> class Circle:
        ...     radius = 1.0
        ...     size: Forwarded[float] = Forwarded("radius")
        >>> circle = Circle()
        >>> circle.size = 2.0
        >>> circle.radius
        2.0
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._part, _, self._name = target.rpartition(".")

    @overload
    def __get__(self, instance: None, owner: type) -> Forwarded[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Forwarded[T] | T:
        """Return the value of the other attribute."""
        return self if instance is None else cast("T", attrgetter(self._target)(instance))

    def __set__(self, instance: Any, value: T) -> None:
        """Set the other attribute."""
        setattr(attrgetter(self._part)(instance) if self._part else instance, self._name, value)
