"""Save handler that writes to a folder."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from glowplug.distributed import rank
from glowplug.typing import SaveHandler
from glowplug_model_checkpoint.checkpoint_file import load, read_manifest, verify, write
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Digest, check_digest
from glowplug_model_checkpoint.filenames import check_filename, has_prefix
from glowplug_model_checkpoint.options import check_options
from glowplug_model_checkpoint.publishing import create, is_temporary, publish, sweep, sync_directory
from glowplug_model_checkpoint.save_handler import BaseSaveHandler, SaveFunction

__all__ = ["DiskSaver", "save_method"]

# Maximum number of existing checkpoints that an error message lists.
MAX_SHOWN = 3


class DiskSaver(BaseSaveHandler):
    """Writes checkpoints to a folder atomically.

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
        self.digest = check_digest(digest)
        self.read_back = read_back
        self.dirname = Path(dirname).expanduser()
        self.atomic = atomic
        self.save_on_rank = save_on_rank
        self.kwargs = kwargs
        if rank() == save_on_rank:
            self._prepare(create_dir, filename_prefix if require_empty else None)

    def save(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint and sync it to disk.

        Args:
            checkpoint: Any object that ``torch.load(weights_only=True)`` can load.
            filename: File name without a path; an existing file is replaced.
            metadata: Description of the checkpoint, which :meth:`metadata` returns; plain values.

        Raises:
            ValueError: If ``filename`` contains a path or is reserved for temporary files, or if
                ``torch.load(weights_only=True)`` refuses the content.
            DamagedCheckpointError: If ``read_back`` is set and the file differs from what was written.
            OSError: If the file cannot be written. A failed write leaves the other files in the folder unchanged.
        """
        path = self.locate(filename)
        if rank() != self.save_on_rank:
            return
        leftovers = [] if path.exists() else [path]
        file = create(self.dirname) if self.atomic else path.open("w+b")
        try:
            with file:
                write(checkpoint, file, metadata or {}, self.digest, self.kwargs)
                os.fsync(file.fileno())
                _check_loadable(file.name, filename)
                if self.read_back:
                    verify(file)
                if self.atomic:
                    publish(file, path)
            sync_directory(self.dirname)
        except BaseException as error:
            for leftover in (Path(file.name), *leftovers):
                with suppress(OSError):
                    leftover.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)
            raise

    def remove(self, filename: str) -> None:
        """Remove a checkpoint; do nothing if it does not exist."""
        path = self.locate(filename)
        if rank() == self.save_on_rank:
            path.unlink(missing_ok=True)

    def __call__(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Call :meth:`save`, for compatibility with ignite."""
        self.save(checkpoint, filename, metadata)

    def load(self, filename: str) -> Any:
        """Load a checkpoint to the CPU without running code from the file.

        Args:
            filename: File name that was passed to :meth:`save`.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            DamagedCheckpointError: If the file does not match its digest.
            pickle.UnpicklingError: If the file contains anything other than tensors and plain values.
        """
        return load(self.locate(filename)).content

    def metadata(self, filename: str) -> Mapping[str, Any] | None:
        """Return the metadata that were passed to :meth:`save`; only the end of the file is read.

        Args:
            filename: File name that was passed to :meth:`save`.

        Returns:
            The metadata, or ``None`` if the file has no manifest, as files of plain ``torch.save``.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            DamagedCheckpointError: If the manifest is damaged.
        """
        with self.locate(filename).open("rb") as file:
            manifest = read_manifest(file)
        return None if manifest is None else manifest.metadata

    def verify(self, filename: str) -> bool:
        """Compare a checkpoint with its digest; the whole file is read.

        Args:
            filename: File name that was passed to :meth:`save`.

        Returns:
            ``True`` if the file matches its digest, ``False`` if the file has no digest.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            DamagedCheckpointError: If the file does not match its digest.
        """
        with self.locate(filename).open("rb") as file:
            return verify(file) is not None

    def list(self) -> Sequence[str]:
        """Return the names of all files except temporary files, oldest first."""
        written = []
        with suppress(FileNotFoundError):
            for path in self.dirname.iterdir():
                # Another process may remove a file at any time.
                with suppress(FileNotFoundError):
                    if path.is_file() and not is_temporary(path.name):
                        written.append((path.stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(written)]

    def locate(self, filename: str) -> Path:
        """Return the path of a checkpoint.

        Raises:
            ValueError: If the name contains a path or is reserved for temporary files.
        """
        if is_temporary(check_filename(filename)):
            raise ValueError(f"{filename!r} is reserved for temporary files; choose another name")
        return self.dirname / filename

    def _prepare(self, create_dir: bool, empty_of: str | None) -> None:
        if create_dir:
            self.dirname.mkdir(parents=True, exist_ok=True)
        if not self.dirname.is_dir():
            raise ValueError(f"folder {str(self.dirname)!r} does not exist; create it or set create_dir=True")
        sweep(self.dirname)
        if empty_of is None:
            return
        found = sorted(path.name for path in self.dirname.iterdir() if has_prefix(path.name, empty_of))
        if found:
            shown = ", ".join(found[:MAX_SHOWN]) + (", ..." if len(found) > MAX_SHOWN else "")
            raise ValueError(
                f"folder {str(self.dirname)!r} already contains checkpoints: {shown}. Choose another folder or "
                "filename_prefix. To resume a run in this folder, pass require_empty=False to ModelCheckpoint or DiskSaver"
            )


def save_method(store: SaveHandler) -> SaveFunction:
    """Return the method with which a save handler saves a checkpoint, usually ``save``.

    If a subclass of DiskSaver overrides ``__call__``, as in ignite, the method is ``__call__``.
    """
    if isinstance(store, DiskSaver):
        names = (name for cls in type(store).__mro__ for name in ("save", "__call__") if name in vars(cls))
        if next(names) == "__call__":
            return store
    return store.save


def _check_loadable(path: str, filename: str) -> None:
    """Refuse a file that ``torch.load(weights_only=True)`` would refuse when a run resumes."""
    # Files in torch's older format cannot be inspected.
    if not zipfile.is_zipfile(path):
        return
    refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if refused:
        raise ValueError(
            f"{filename!r} was not saved because it contains types that torch.load(weights_only=True) refuses: "
            f"{', '.join(sorted(refused))}. Return tensors and plain Python values from state_dict(), or allow the types "
            "with torch.serialization.add_safe_globals([...])"
        )
