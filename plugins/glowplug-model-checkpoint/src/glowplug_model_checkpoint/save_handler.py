"""Save handlers for plain functions and of ignite."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from glowplug.engine import check_function, check_result

__all__ = [
    "BaseSaveHandler",
    "FunctionSaver",
    "SaveFunction",
]

SaveFunction: TypeAlias = Callable[[Any, str, Mapping[str, Any]], object]


class BaseSaveHandler(ABC):
    """Base class of save handlers written for ignite; these handlers write and remove checkpoints but cannot load them.

    New save handlers implement :class:`glowplug.typing.SaveHandler` instead and need no base class.

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

    @abstractmethod
    def __call__(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint, and return only after it is stored durably.

        Args:
            checkpoint: Nested mappings and lists of tensors and plain values.
            filename: File name without a path.
            metadata: Mapping with the ``basename``, ``score_name`` and ``priority`` of the checkpoint.
        """

    @abstractmethod
    def remove(self, filename: str) -> None:
        """Remove a checkpoint; do nothing if it does not exist.

        Args:
            filename: File name under which the checkpoint was stored.
        """


class FunctionSaver:
    """Adapts a function ``(checkpoint, filename, metadata)`` to the save-handler protocol.

    Args:
        function: Function that takes ``(checkpoint, filename, metadata)`` or ``(checkpoint, filename)``. Two optional
            attributes of the function are called with a file name: ``remove`` removes the checkpoint, and ``locate`` returns
            its location. Without ``remove``, no checkpoint is ever removed.

    Raises:
        TypeError: If ``function`` is not callable, takes other arguments, or is an ``async`` function or a generator function.

    Example:
        >>> saver = FunctionSaver(lambda checkpoint, filename: print(filename))
        >>> saver.save({}, "model_1.pt", {"priority": 1})
        model_1.pt
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._save = _with_three_arguments(function)

    def save(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Call the function.

        Raises:
            TypeError: If the function returns a coroutine or a generator, because in that case nothing was saved.
        """
        check_result(
            self._save(checkpoint, filename, metadata or {}), lambda: f"save_handler {self._function!r}"
        )

    def load(self, filename: str) -> NoReturn:
        """Refuse to load.

        Raises:
            TypeError: Always.
        """
        raise TypeError(self._refusal(f"load {filename!r}"))

    def list(self) -> Sequence[str]:
        """Refuse to list.

        Raises:
            TypeError: Always.
        """
        raise TypeError(self._refusal("list checkpoints"))

    def remove(self, filename: str) -> None:
        """Remove a checkpoint if the function has an attribute ``remove``."""
        remove = getattr(self._function, "remove", None)
        if callable(remove):
            remove(filename)

    def locate(self, filename: str) -> Path | str:
        """Return what the function's ``locate`` method returns, or the file name if the function has no such method."""
        locate = getattr(self._function, "locate", None)
        return locate(filename) if callable(locate) else filename

    def _refusal(self, action: str) -> str:
        return (
            f"cannot {action}: save_handler {self._function!r} only writes; pass a folder, an address or an object "
            "with the methods save, load, list, remove and locate (glowplug.typing.SaveHandler)"
        )


def _with_three_arguments(save_handler: Callable[..., object]) -> SaveFunction:
    if not callable(save_handler):
        raise TypeError(
            "save_handler must be a folder, an address, an object with the methods save, load, list, remove and locate, or a "
            f"function (checkpoint, filename, metadata); got {save_handler!r}"
        )
    check_function(save_handler, f"save_handler {save_handler!r}")
    try:
        signature = inspect.signature(save_handler)
    except ValueError:
        raise TypeError(
            f"the signature of save_handler {save_handler!r} cannot be read; wrap the function in a lambda: "
            "lambda checkpoint, filename, metadata: ..."
        ) from None
    if _takes(signature, 3):
        return save_handler
    if _takes(signature, 2):
        return lambda checkpoint, filename, _: save_handler(checkpoint, filename)
    raise TypeError(
        "save_handler is called as f(checkpoint, filename, metadata) or f(checkpoint, filename); "
        f"{save_handler!r} has the signature {signature}"
    )


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
