"""Save handler to which each rank writes its part of sharded models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from glowplug.distributed import rank
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Digest, check_digest, digest_of_file
from glowplug_model_checkpoint.file_format import TorchFormat
from glowplug_model_checkpoint.file_saver import check_stored_name, refuse_existing
from glowplug_model_checkpoint.manifest import Manifest
from glowplug_model_checkpoint.publishing import (
    TemporaryFolder,
    is_temporary,
    publish_folder,
    remove_folder,
    sweep,
    sync_directory,
)
from glowplug_model_checkpoint.ranks import everywhere, together
from glowplug_model_checkpoint.sealing import DamagedCheckpointError
from glowplug_model_checkpoint.shard_files import files_of_rank, read_shards, write_shards
from glowplug_model_checkpoint.sharding import is_dtensor, mapped_tensors, shards_in

__all__ = ["ShardedSaver"]

# The file with everything but the sharded tensors, and with the manifest.
_STATE = "state.pt"
_SHARDS = "shards"


class ShardedSaver:
    """Store each checkpoint as a folder, to which each rank writes its part of sharded models and optimizers.

    No rank gathers a whole model in order to save it. The folder must be accessible to all ranks. The files of the sharded tensors
    are those of ``torch.distributed.checkpoint``; ``state.pt`` contains everything else, and a manifest with the digests of all
    files. The folder is written under a temporary name, synced to disk, and then renamed.

    ``Checkpoint(to_save, ShardedSaver("runs"))`` saves on all ranks. It cannot save in the background or at ``EXCEPTION_RAISED``.

    A checkpoint can be loaded on any number of ranks, and into models that are not sharded. Each rank reads the whole checkpoint, and
    keeps its part.

    Args:
        dirname: Folder for the checkpoints; ``~`` is expanded.
        require_empty: Refuse a folder that already contains sharded checkpoints.
        filename_prefix: ``require_empty`` considers only checkpoints with this prefix. An empty prefix matches all checkpoints.
        digest: Kind of the digests: ``"xxh3_128"``, or ``"sha256"``, which is slower.

    Raises:
        ValueError: If the digest is unknown, or if ``require_empty`` refuses the folder.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.TemporaryDirectory()
        >>> saver = ShardedSaver(folder.name)
        >>> saver.save({"weight": torch.ones(2)}, "model_1.dcp", {"step": 1})
        >>> saver.list(), saver.load("model_1.dcp"), saver.metadata("model_1.dcp")
        (['model_1.dcp'], {'weight': tensor([1., 1.])}, {'step': 1})
        >>> folder.cleanup()
    """

    collective = True
    extension = "dcp"

    def __init__(
        self,
        dirname: str | Path,
        require_empty: bool = False,
        *,
        filename_prefix: str = "",
        digest: Digest = DEFAULT_DIGEST,
    ) -> None:
        self.dirname = Path(dirname).expanduser()
        self.digest = check_digest(digest)
        self._format = TorchFormat()
        if rank() == 0:
            self.dirname.mkdir(parents=True, exist_ok=True)
            sweep(self.dirname)
            if require_empty:
                refuse_existing(self.list(), f"folder {str(self.dirname)!r}", filename_prefix, self.extension)

    def save(self, checkpoint: Any, filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Store a checkpoint durably. All ranks must call this method.

        Args:
            checkpoint: Nested dicts and lists of tensors and plain values. Each rank stores its part of the DTensors, and rank 0
                stores its other values.
            filename: Name of the checkpoint's folder; an existing checkpoint with this name is replaced.
            metadata: Description of the checkpoint, which :meth:`metadata` returns; plain values.

        Raises:
            ValueError: If ``filename`` contains a path or is reserved for temporary files, or if ``torch.load(weights_only=True)``
                refuses the content.
            OSError: If a file cannot be written. A failed write leaves the other checkpoints unchanged, and each rank raises an
                exception.
        """
        path = self.locate(filename)
        shards = list(shards_in(checkpoint))
        temporary: list[TemporaryFolder] = []

        def create() -> str:
            if rank() == 0:
                temporary.append(TemporaryFolder(self.dirname))
            return temporary[0].path.name if temporary else ""

        def publish() -> None:
            if rank() == 0:
                self._write_state(
                    checkpoint, filename, folder, [keys for keys, _ in shards], metadata or {}, digests
                )
                publish_folder(folder, path)

        try:
            folder = self.dirname / together(create)
            write_shards(folder, {str(number): tensor for number, (_, tensor) in enumerate(shards)})
            own = everywhere(lambda: self._digests(folder))
            digests = {name: values for each in own for name, values in each.items()}
            together(publish)
        finally:
            for each in temporary:
                each.close()

    def load(self, filename: str) -> Any:
        """Load a checkpoint with whole tensors on the CPU, without running code from its files; any rank may call this alone.

        Args:
            filename: Name that was passed to :meth:`save`.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            DamagedCheckpointError: If a file does not match its digest.
        """
        path = self.locate(filename)
        self.verify(filename)
        with (path / _STATE).open("rb") as file:
            stored = self._format.load(file, path).content
        content, places = stored["content"], stored[_SHARDS]
        tensors = read_shards(path) if places else {}
        for number, keys in enumerate(places):
            content = _with_value(content, keys, tensors[str(number)])
        return content

    def metadata(self, filename: str) -> Mapping[str, Any] | None:
        """Return the metadata that were passed to :meth:`save`; only a small part of the checkpoint is read.

        Args:
            filename: Name that was passed to :meth:`save`.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            DamagedCheckpointError: If the manifest is damaged.
        """
        with (self.locate(filename) / _STATE).open("rb") as file:
            manifest = self._format.read_manifest(file)
        return {key: value for key, value in _metadata_of(manifest).items() if key != _SHARDS}

    def verify(self, filename: str) -> bool:
        """Compare all files of a checkpoint with their digests.

        Args:
            filename: Name that was passed to :meth:`save`.

        Returns:
            ``True``, because each checkpoint has digests.

        Raises:
            FileNotFoundError: If the checkpoint does not exist.
            DamagedCheckpointError: If a file does not match its digest, or if a file is missing.
        """
        path = self.locate(filename)
        with (path / _STATE).open("rb") as file:
            manifest = self._format.verify(file)
        expected = _metadata_of(manifest)[_SHARDS]
        for name, (digest, value) in expected.items():
            try:
                found = digest_of_file(path / Path(name).name, digest)
            except FileNotFoundError:
                # The whole checkpoint may have been removed meanwhile.
                if not path.exists():
                    raise
                raise DamagedCheckpointError(f"its file {name!r} is missing") from None
            if found != value:
                raise DamagedCheckpointError(f"the {digest} digest of its file {name!r} does not match")
        return True

    def list(self) -> Sequence[str]:
        """Return the names of all checkpoints, oldest first."""
        found = []
        with suppress(FileNotFoundError):
            for path in self.dirname.iterdir():
                # Another process may remove a checkpoint at any time.
                with suppress(FileNotFoundError, NotADirectoryError):
                    if not is_temporary(path.name):
                        found.append(((path / _STATE).stat().st_mtime_ns, path.name))
        return [name for _, name in sorted(found)]

    def remove(self, filename: str) -> None:
        """Remove a checkpoint; do nothing if it does not exist. Other ranks than rank 0 do nothing."""
        path = self.locate(filename)
        if rank() == 0:
            remove_folder(path)

    def locate(self, filename: str) -> Path:
        """Return the path of a checkpoint's folder.

        Raises:
            ValueError: If the name contains a path or is reserved for temporary files.
        """
        return self.dirname / check_stored_name(filename)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.dirname)!r})"

    def _digests(self, folder: Path) -> Mapping[str, Sequence[str]]:
        """Return the digests of the files that this rank has written."""
        return {
            path.name: (self.digest, digest_of_file(path, self.digest))
            for path in files_of_rank(folder, rank())
        }

    def _write_state(
        self,
        checkpoint: Any,
        filename: str,
        folder: Path,
        places: Sequence[tuple[Any, ...]],
        metadata: Mapping[str, Any],
        digests: Mapping[str, Sequence[str]],
    ) -> None:
        content = mapped_tensors(checkpoint, lambda tensor: None if is_dtensor(tensor) else tensor)
        with (folder / _STATE).open("x+b") as file:
            stored = {"content": content, _SHARDS: list(places)}
            self._format.write(stored, file, {**metadata, _SHARDS: digests}, self.digest, filename)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(folder)


def _metadata_of(manifest: Manifest | None) -> Mapping[str, Any]:
    if manifest is None or not isinstance(manifest.metadata.get(_SHARDS), Mapping):
        raise DamagedCheckpointError(f"its file {_STATE!r} has no manifest of a sharded checkpoint")
    return manifest.metadata


def _with_value(state: Any, keys: Sequence[Any], value: Any) -> Any:
    """Put a value into nested dicts, lists and tuples."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(state, tuple):
        return tuple(_with_value(list(state), keys, value))
    state[key] = _with_value(state[key], rest, value)
    return state
