"""Stash: typed per-engine storage for handlers."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast, overload

__all__ = ["Stash", "StashKey"]

T = TypeVar("T")
D = TypeVar("D")


class StashKey(Generic[T]):
    """Key for a value of type ``T`` in a :class:`Stash`.

    Create one key per value, at module level; two keys are never equal.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> SEEN = StashKey[int]()
        >>> engine = FakeEngine()
        >>> engine.stash[SEEN] = 1
        >>> engine.stash[SEEN] + 1
        2
    """

    __slots__ = ()


class Stash:
    """Values that belong to one engine, accessed by typed keys.

    The values live as long as the engine. An engine that was deep-copied or unpickled starts with an empty stash.

    Example:
        >>> NAMES = StashKey[set[str]]()
        >>> stash = Stash()
        >>> stash.setdefault(NAMES, set()).add("loss")
        >>> stash[NAMES]
        {'loss'}
        >>> del stash[NAMES]
        >>> NAMES in stash
        False
    """

    def __init__(self) -> None:
        self._values: dict[StashKey[Any], object] = {}

    def __setitem__(self, key: StashKey[T], value: T) -> None:
        self._values[key] = value

    def __getitem__(self, key: StashKey[T]) -> T:
        return cast("T", self._values[key])

    def __delitem__(self, key: StashKey[Any]) -> None:
        del self._values[key]

    def __contains__(self, key: StashKey[Any]) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def get(self, key: StashKey[T]) -> T | None: ...
    @overload
    def get(self, key: StashKey[T], default: D) -> T | D: ...
    def get(self, key: StashKey[T], default: Any = None) -> Any:
        """Return the value of a key, or ``default`` if the key is missing.

        Args:
            key: The key.
            default: The value to return if the key is missing. Defaults to ``None``.
        """
        return self._values.get(key, default)

    def setdefault(self, key: StashKey[T], default: T) -> T:
        """Return the value of a key, after storing ``default`` if the key is missing.

        Args:
            key: The key.
            default: The value to store if the key is missing.
        """
        return cast("T", self._values.setdefault(key, default))

    def __getstate__(self) -> dict[str, Any]:
        return {"_values": {}}
