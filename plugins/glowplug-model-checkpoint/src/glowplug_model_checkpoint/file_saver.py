"""Save handler that stores each checkpoint as one file, whatever the storage and the format of the file are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glowplug.distributed import rank
from glowplug_model_checkpoint.checkpoint_file import Loaded
from glowplug_model_checkpoint.digests import Digest, check_digest
from glowplug_model_checkpoint.file_format import FileFormat
from glowplug_model_checkpoint.filenames import check_filename, has_prefix
from glowplug_model_checkpoint.publishing import is_temporary
from glowplug_model_checkpoint.storage import Storage

__all__ = ["FileSaver", "check_stored_name", "refuse_existing"]

# Maximum number of existing checkpoints that an error message lists.
MAX_SHOWN = 3


class FileSaver:
    """Stores checkpoints as files that appear only when they are complete, and whose damage is detected.

    Args:
        storage: Where the files are.
        file_format: What the files contain.
        save_on_rank: The only rank that writes and removes files; on other ranks, ``save`` and ``remove`` do nothing.
        digest: Kind of the digest.
        read_back: Read each file again, and raise if it differs from what was written.

    Raises:
        ValueError: If the digest is unknown.
    """

    def __init__(
        self, storage: Storage, file_format: FileFormat, *, save_on_rank: int, digest: Digest, read_back: bool
    ) -> None:
        self.storage = storage
        self.file_format = file_format
        self.extension = file_format.extension
        self.save_on_rank = save_on_rank
        self.digest = check_digest(digest)
        self.read_back = read_back
        self._is_prepared = False

    def prepare(self) -> None:
        """Create the folder if it does not exist, and remove temporary files of processes that were killed.

        Only the first call does this; the first ``save`` calls this method.
        """
        if not self._is_prepared:
            self.storage.prepare()
            self._is_prepared = True

    def refuse_existing(self, place: str, filename_prefix: str) -> None:
        """Refuse a location that already contains checkpoints with this prefix.

        Raises:
            ValueError: If there are such checkpoints.
        """
        refuse_existing(self.storage.list(), place, filename_prefix, self.extension)

    def save(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint durably before returning.

        Args:
            checkpoint: A content that the format of the files supports.
            filename: File name without a path; an existing file is replaced.
            metadata: Description of the checkpoint, which :meth:`metadata` returns; plain values.

        Raises:
            ValueError: If ``filename`` contains a path or is reserved for temporary files, or if the format does not support the
                content.
            DamagedCheckpointError: If ``read_back`` is set and the file differs from what was written.
            OSError: If the file cannot be written. A failed write leaves the other files unchanged.
        """
        check_stored_name(filename)
        if rank() != self.save_on_rank:
            return
        self.prepare()
        self.storage.store(
            filename,
            lambda file: self.file_format.write(checkpoint, file, metadata or {}, self.digest, filename),
            self.file_format.verify if self.read_back else None,
        )

    def remove(self, filename: str) -> None:
        """Remove a checkpoint; do nothing if it does not exist."""
        check_stored_name(filename)
        if rank() == self.save_on_rank:
            self.storage.remove(filename)

    def load(self, filename: str) -> Any:
        """Load a checkpoint to the CPU without running code from the file.

        Args:
            filename: File name that was passed to :meth:`save`.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            DamagedCheckpointError: If the file does not match its digest.
            pickle.UnpicklingError: If the file contains anything other than tensors and plain values.
        """
        return self.load_with_metadata(filename).content

    def load_with_metadata(self, filename: str) -> Loaded:
        """Load a checkpoint and its metadata from the same file, as :meth:`load` does."""
        with self.storage.open(check_stored_name(filename)) as file:
            return self.file_format.load(file, self.locate(filename))

    def metadata(self, filename: str) -> Mapping[str, Any] | None:
        """Return the metadata that were passed to :meth:`save`; only a small part of the file is read.

        Args:
            filename: File name that was passed to :meth:`save`.

        Returns:
            The metadata, or ``None`` if the file has no manifest, as files of plain ``torch.save``.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            DamagedCheckpointError: If the manifest is damaged.
        """
        with self.storage.open_parts(check_stored_name(filename)) as file:
            manifest = self.file_format.read_manifest(file)
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
        with self.storage.open(check_stored_name(filename)) as file:
            return self.file_format.verify(file) is not None

    def list(self) -> Sequence[str]:
        """Return the names of all files except temporary files, oldest first."""
        return self.storage.list()

    def locate(self, filename: str) -> Path | str:
        """Return the path or address of a checkpoint.

        Raises:
            ValueError: If the name contains a path or is reserved for temporary files.
        """
        return self.storage.locate(check_stored_name(filename))


def check_stored_name(filename: str) -> str:
    """Check the name of a checkpoint and return it.

    Raises:
        TypeError: If the name is not a string.
        ValueError: If the name contains a path or is reserved for temporary files.

    Example:
        >>> check_stored_name("model_1.pt")
        'model_1.pt'
    """
    if is_temporary(check_filename(filename)):
        raise ValueError(f"{filename!r} is reserved for temporary files; choose another name")
    return filename


def refuse_existing(names: Sequence[str], place: str, filename_prefix: str, extension: str) -> None:
    """Refuse a place that already contains checkpoints with this prefix, so that the files of two runs are not mixed.

    Args:
        names: The names of the files.
        place: The place in the error message.
        filename_prefix: The prefix; an empty prefix matches all checkpoints.
        extension: Extension of the checkpoints, without the dot.

    Raises:
        ValueError: If there are such checkpoints.

    Example:
        >>> refuse_existing(["last_model_1.pt", "notes.txt"], "folder 'runs'", "best", "pt")
    """
    found = sorted(name for name in names if has_prefix(name, filename_prefix, extension))
    if found:
        shown = ", ".join(found[:MAX_SHOWN]) + (", ..." if len(found) > MAX_SHOWN else "")
        raise ValueError(
            f"{place} already contains checkpoints: {shown}. Choose another folder or filename_prefix. To resume a run in this "
            "folder, pass require_empty=False to ModelCheckpoint or to the save handler"
        )
