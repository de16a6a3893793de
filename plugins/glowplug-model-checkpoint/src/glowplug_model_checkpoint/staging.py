"""Staging: what a save does at once, so that the rest can happen in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glowplug.typing import SaveHandler, StagingSaveHandler
from glowplug_model_checkpoint.disk_saver import save_method
from glowplug_model_checkpoint.snapshot import Snapshot

__all__ = ["Stager"]


class Stager:
    """Copies each checkpoint of a save handler before it is stored.

    Args:
        store: The save handler. If it has no method ``stage``, a :class:`Snapshot` makes the copy.

    Example:
        >>> import torch
        >>> from glowplug_model_checkpoint.save_handler import FunctionSaver
        >>> weight = torch.zeros(1)
        >>> store = FunctionSaver(lambda checkpoint, filename: print(filename, checkpoint))
        >>> commit = Stager(store).stage({"weight": weight}, "model_1.pt", {})
        >>> _ = weight.fill_(1)
        >>> commit()
        model_1.pt {'weight': tensor([0.])}
    """

    def __init__(self, store: SaveHandler) -> None:
        self._store = store
        self._snapshot = Snapshot()

    def stage(self, content: Any, filename: str, metadata: Mapping[str, Any]) -> Callable[[], None]:
        """Copy a checkpoint, and return a function that stores the copy durably.

        Args:
            content: Content of the checkpoint.
            filename: File name without a path.
            metadata: Description of the checkpoint.
        """
        if isinstance(self._store, StagingSaveHandler):
            return self._store.stage(content, filename, metadata)
        save, staged = save_method(self._store), self._snapshot.take(content)

        def commit() -> None:
            staged.wait()
            save(staged.content, filename, metadata)

        return commit
