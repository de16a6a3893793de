"""What a checkpoint is given to: the interface of save handlers."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["BaseSaveHandler", "SaveFunction", "is_address", "three_arguments"]

SaveFunction: TypeAlias = Callable[[Any, str, Mapping[str, Any]], object]


class BaseSaveHandler(ABC):
    """Stores checkpoints under file names, and removes them again (H-040).

    A call returns when the checkpoint is safe, and raises if it is not: what it returned from is recorded, and only then
    are older checkpoints removed. An object that has the same four methods counts as one without this base class, so that
    a plugin that answers for an address needs nothing but the core.

    Example:
        >>> class InMemory(BaseSaveHandler):
        ...     def __init__(self):
        ...         self.files = {}
        ...
        ...     def __call__(self, checkpoint, filename, metadata=None):
        ...         self.files[filename] = checkpoint
        ...
        ...     def remove(self, filename):
        ...         self.files.pop(filename, None)
        >>> saver = InMemory()
        >>> saver({"weight": 1}, "model_1.pt")
        >>> saver.files
        {'model_1.pt': {'weight': 1}}
    """

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:  # bool, or NotImplemented
        methods = ("__call__", "remove", "exists", "locate")
        is_alike = cls is BaseSaveHandler and all(callable(getattr(other, name, None)) for name in methods)
        return is_alike or NotImplemented

    @abstractmethod
    def __call__(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint.

        Args:
            checkpoint: mappings and lists of plain values and tensors.
            filename: a plain name, without a path.
            metadata: ``basename``, ``score_name`` and ``priority`` of the checkpoint (H-013).
        """

    @abstractmethod
    def remove(self, filename: str) -> None:
        """Remove a checkpoint; one that is gone already is no error (H-045)."""

    def exists(self, filename: str) -> bool:
        """Return whether a checkpoint is still there; a handler that cannot look says yes."""
        return True

    def locate(self, filename: str) -> Path | str:
        """Return where a checkpoint is, for who wants to load it; the bare name by default."""
        return filename


def is_address(place: object) -> bool:
    """Return whether this is an address with a scheme, which a plugin knows what to do with, and no folder.

    Example:
        >>> is_address("s3://bucket/run"), is_address("runs/today"), is_address("C://runs")
        (True, False, False)
    """
    return isinstance(place, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place) is not None


def three_arguments(save_handler: Callable[..., object]) -> SaveFunction:
    """Return a save handler as a function of ``(checkpoint, filename, metadata)``, decided from its signature (H-012).

    Args:
        save_handler: takes these three, or the first two.

    Raises:
        TypeError: it takes neither, or cannot be called.

    Example:
        >>> three_arguments(lambda checkpoint, filename: print(filename))({}, "model_1.pt", {"priority": 1})
        model_1.pt
    """
    if not callable(save_handler):
        raise TypeError(
            "save_handler must be a folder (str or Path), a BaseSaveHandler or a function "
            f"(checkpoint, filename, metadata); got {save_handler!r}"
        )
    try:
        signature = inspect.signature(save_handler)
    except ValueError:
        raise TypeError(
            f"save_handler {save_handler!r} does not tell its arguments; wrap it: lambda checkpoint, filename, metadata: ..."
        ) from None
    if _takes(signature, 3):
        return save_handler
    if _takes(signature, 2):
        return lambda checkpoint, filename, _: save_handler(checkpoint, filename)
    raise TypeError(
        f"save_handler is called as f(checkpoint, filename, metadata) or f(checkpoint, filename), which {save_handler!r} "
        f"with its arguments {signature} does not take"
    )


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
