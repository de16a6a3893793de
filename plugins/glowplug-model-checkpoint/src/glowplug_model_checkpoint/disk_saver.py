"""Save handler that writes to a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glowplug.distributed import rank
from glowplug.typing import SaveHandler
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Digest
from glowplug_model_checkpoint.file_format import TorchFormat
from glowplug_model_checkpoint.file_saver import FileSaver, check_stored_name
from glowplug_model_checkpoint.options import check_options
from glowplug_model_checkpoint.save_handler import BaseSaveHandler, SaveFunction
from glowplug_model_checkpoint.storage import Folder

__all__ = ["DiskSaver", "save_method"]


class DiskSaver(FileSaver, BaseSaveHandler):
    """Write checkpoints to a folder atomically.

    Each checkpoint is written to a temporary file in the same folder, synced to disk and then renamed. After the rename, the
    folder is also synced to disk. The file contains a manifest with the metadata, and a digest that detects each changed bit. A
    new DiskSaver removes temporary files that were left in the folder by killed processes.
    Temporary files that a process is still writing are not removed.

    A subclass can override ``save``, or ``__call__`` as in ignite. :class:`Checkpoint` calls the method that the subclass
    overrides.

    Args:
        dirname: Folder for the checkpoints; ``~`` is expanded.
        atomic: Write to a temporary file, then rename it. ``False`` writes directly to the final file, so a crash may leave an
            incomplete file.
        create_dir: Create the folder and its parents if they do not exist.
        require_empty: Refuse a folder that already contains checkpoints (``*.pt``), so that the files of two runs
            are not mixed.
        save_on_rank: The only rank that writes and removes files; on other ranks, ``save`` and ``remove`` do nothing.
        filename_prefix: ``require_empty`` considers only checkpoints with this prefix. An empty prefix matches all checkpoints.
        digest: Kind of the digest: ``"xxh3_128"``, or ``"sha256"``, which is slower.
        read_back: Read each file again before it gets its final name, and raise if it differs from what was written. This
            detects faulty disks and file systems, and takes the time of reading the file.
        **kwargs: Arguments of ``torch.save``.

    Raises:
        TypeError: If ``kwargs`` has an argument that ``torch.save`` does not accept.
        ValueError: If the folder does not exist and ``create_dir`` is false, if ``require_empty`` refuses the folder, or if the
            digest is unknown.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.TemporaryDirectory()
        >>> saver = DiskSaver(folder.name)
        >>> saver.save({"weight": torch.ones(2)}, "model_1.pt", {"step": 1})
        >>> saver.list(), saver.load("model_1.pt"), saver.metadata("model_1.pt")
        (['model_1.pt'], {'weight': tensor([1., 1.])}, {'step': 1})
        >>> saver.remove("model_1.pt")
        >>> folder.cleanup()
    """

    def __init__(
        self,
        dirname: str | Path,
        atomic: bool = True,
        create_dir: bool = True,
        require_empty: bool = True,
        save_on_rank: int = 0,
        *,
        filename_prefix: str = "",
        digest: Digest = DEFAULT_DIGEST,
        read_back: bool = False,
        **kwargs: Any,
    ) -> None:
        check_options(type(self), kwargs)
        self.dirname = Path(dirname).expanduser()
        self.atomic = atomic
        self.kwargs = kwargs
        super().__init__(
            Folder(self.dirname, atomic),
            TorchFormat(kwargs),
            save_on_rank=save_on_rank,
            digest=digest,
            read_back=read_back,
        )
        if rank() == save_on_rank:
            if not (create_dir or self.dirname.is_dir()):
                raise ValueError(
                    f"folder {str(self.dirname)!r} does not exist; create it or set create_dir=True"
                )
            self.prepare()
            if require_empty:
                self.refuse_existing(f"folder {str(self.dirname)!r}", filename_prefix)

    def __call__(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Call :meth:`save`, for compatibility with ignite."""
        self.save(checkpoint, filename, metadata)

    def locate(self, filename: str) -> Path:
        """Return the path of a checkpoint.

        Raises:
            ValueError: If the name contains a path or is reserved for temporary files.
        """
        return self.dirname / check_stored_name(filename)


def save_method(store: SaveHandler) -> SaveFunction:
    """Return the method with which a save handler saves a checkpoint, usually ``save``.

    If a subclass of DiskSaver overrides ``__call__``, as in ignite, the method is ``__call__``.
    """
    if isinstance(store, DiskSaver):
        names = (name for cls in type(store).__mro__ for name in ("save", "__call__") if name in vars(cls))
        if next(names) == "__call__":
            return store
    return store.save
