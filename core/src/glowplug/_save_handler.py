"""Protocols of save handlers, available to users in ``glowplug.typing``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class SaveHandler(Protocol):
    """Storage for checkpoints, each of which has a plain file name.

    ``save`` returns only after it has stored the checkpoint durably, and raises an exception if saving fails. Another handler
    for the same location can list and load the stored checkpoints, even in another process. A save handler needs no base class.
    Its files have the extension ``pt``, unless it has an attribute ``extension`` (without the dot).

    By default, one rank calls ``save``. If the save handler has an attribute ``collective`` that is true, all ranks call ``save``
    together with the same file name and metadata, and sharded tensors remain DTensors, so that each rank can store its part. Each
    rank calls ``load``, which returns whole tensors, by itself; rank 0 alone calls the other methods.

    Example:
        >>> class InMemory:
        ...     def __init__(self):
        ...         self.files = {}
        ...
        ...     def save(self, checkpoint, filename, metadata=None):
        ...         self.files.pop(filename, None)
        ...         self.files[filename] = checkpoint
        ...
        ...     def load(self, filename):
        ...         return self.files[filename]
        ...
        ...     def list(self):
        ...         return list(self.files)
        ...
        ...     def remove(self, filename):
        ...         self.files.pop(filename, None)
        ...
        ...     def locate(self, filename):
        ...         return filename
        >>> isinstance(InMemory(), SaveHandler)
        True
    """

    def save(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint durably before returning.

        Args:
            checkpoint: Mappings and lists of plain values and tensors. After the call, the caller may modify the checkpoint.
            filename: A file name without a path. An existing checkpoint with this name is replaced.
            metadata: Description of the checkpoint in plain values, such as ``basename``, ``score_name``, ``priority``, ``step``,
                ``epoch`` and ``scores``.
        """

    def load(self, filename: str) -> Any:
        """Return a stored checkpoint with its tensors on the CPU.

        Args:
            filename: The name given to :meth:`save`.

        Raises:
            Exception: If the checkpoint does not exist or cannot be read.
        """

    def list(self) -> Sequence[str]:
        """Return the names of all complete checkpoints, oldest first."""

    def remove(self, filename: str) -> None:
        """Remove a checkpoint; do nothing if it does not exist.

        Args:
            filename: The name given to :meth:`save`.
        """

    def locate(self, filename: str) -> Path | str:
        """Return the path or address of a checkpoint.

        Args:
            filename: The name given to :meth:`save`.

        Returns:
            The path or address. A handler for the address ``scheme://location`` returns ``scheme://location/filename``, so
            that the address alone identifies the checkpoint.
        """


@runtime_checkable
class StagingSaveHandler(SaveHandler, Protocol):
    """Save handler with its own way to copy a checkpoint before it is stored in the background.

    The method :meth:`stage` is optional. Without it, ``ModelCheckpoint(async_save=True)`` copies the checkpoint in memory and
    calls ``save`` on another thread.

    Example:
        >>> import copy
        >>> class InMemory(StagingSaveHandler):  # the other methods are as for SaveHandler
        ...     def __init__(self):
        ...         self.files = {}
        ...
        ...     def stage(self, checkpoint, filename, metadata=None):
        ...         staged = copy.deepcopy(checkpoint)
        ...         return lambda: self.files.update({filename: staged})
        >>> handler, checkpoint = InMemory(), {"epoch": 1}
        >>> store = handler.stage(checkpoint, "model.pt")
        >>> checkpoint["epoch"] = 2
        >>> store()
        >>> handler.files
        {'model.pt': {'epoch': 1}}
    """

    def stage(
        self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None
    ) -> Callable[[], None]:
        """Copy a checkpoint, and return a function that stores the copy durably.

        Training continues after this call. The returned function is called once, on another thread, before the next call of this
        method.

        Args:
            checkpoint: As for ``save()``.
            filename: As for ``save()``.
            metadata: As for ``save()``.
        """


@runtime_checkable
class VerifyingSaveHandler(SaveHandler, Protocol):
    """Save handler that stores the metadata of checkpoints, and can tell whether a checkpoint is damaged.

    The methods :meth:`metadata` and :meth:`verify` are optional. With them, ``ModelCheckpoint.latest`` and ``best`` find
    checkpoints by the steps and scores in the metadata; without them, by the steps in the file names.

    Example:
        >>> import hashlib
        >>> class InMemory(VerifyingSaveHandler):  # the other methods are as for SaveHandler
        ...     def __init__(self):
        ...         self.files = {}
        ...
        ...     def save(self, checkpoint, filename, metadata=None):
        ...         data = repr(checkpoint).encode()
        ...         self.files[filename] = (data, hashlib.sha256(data).digest(), metadata)
        ...
        ...     def metadata(self, filename):
        ...         return self.files[filename][2]
        ...
        ...     def verify(self, filename):
        ...         data, digest, _ = self.files[filename]
        ...         if hashlib.sha256(data).digest() != digest:
        ...             raise ValueError(f"{filename} is damaged")
        ...         return True
        >>> handler = InMemory()
        >>> handler.save({"epoch": 1}, "model.pt", {"step": 100})
        >>> handler.metadata("model.pt"), handler.verify("model.pt")
        ({'step': 100}, True)
    """

    def metadata(self, filename: str) -> Mapping[str, Any] | None:
        """Return the metadata that was passed to ``save()``, without reading the whole checkpoint.

        Args:
            filename: The name given to ``save()``.

        Returns:
            The metadata, or ``None`` if the checkpoint was stored without metadata.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            Exception: If the checkpoint is damaged.
        """

    def verify(self, filename: str) -> bool:
        """Read a checkpoint and compare it with its digest.

        Args:
            filename: The name given to ``save()``.

        Returns:
            Whether the checkpoint has a digest.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            Exception: If the checkpoint is damaged.
        """
