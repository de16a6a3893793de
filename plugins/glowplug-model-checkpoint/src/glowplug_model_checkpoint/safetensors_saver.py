"""Save handler that writes safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glowplug.distributed import rank
from glowplug_model_checkpoint.addresses import is_address, without_secrets
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Digest
from glowplug_model_checkpoint.file_saver import FileSaver
from glowplug_model_checkpoint.remote_storage import storage_at
from glowplug_model_checkpoint.safetensors_file import SafetensorsFormat
from glowplug_model_checkpoint.storage import Folder

__all__ = ["SafetensorsSaver"]


class SafetensorsSaver(FileSaver):
    """Store the weights of models as safetensors files, which Hugging Face libraries read.

    A checkpoint may contain only tensors in nested mappings, as the states of models do. Anything else, such as the state of an
    optimizer or an engine, is refused when it is saved; save it with another handler. Names of nested mappings are joined with
    dots. Tied weights are stored once. Files are published as those of :class:`DiskSaver` and :class:`FsspecSaver` are, and
    contain a manifest and a digest in the metadata of their header.

    Args:
        location: Folder, in which ``~`` is expanded, or address such as ``"s3://bucket/run"``.
        require_empty: Refuse a location that already contains checkpoints (``*.safetensors``).
        save_on_rank: The only rank that writes and removes files; on other ranks, ``save`` and ``remove`` do nothing.
        filename_prefix: ``require_empty`` considers only checkpoints with this prefix. An empty prefix matches all checkpoints.
        digest: Kind of the digest: ``"xxh3_128"``, or ``"sha256"``, which is slower.
        read_back: Read each file again, and raise if it differs from what was written.
        storage_options: Arguments of the driver of fsspec, for an address.

    Raises:
        ValueError: If the digest is unknown, or ``require_empty`` refuses the location.
        TypeError: If ``storage_options`` are given for a folder.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from glowplug_model_checkpoint import Checkpoint, ModelCheckpoint
        >>> from glowplug.testing import FakeEngine
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Checkpoint({"model": nn.Linear(2, 1)}, SafetensorsSaver(folder))(FakeEngine())
        ...     print(ModelCheckpoint.latest(SafetensorsSaver(folder)).name)
        model_0.safetensors
    """

    def __init__(
        self,
        location: str | Path,
        require_empty: bool = False,
        save_on_rank: int = 0,
        *,
        filename_prefix: str = "",
        digest: Digest = DEFAULT_DIGEST,
        read_back: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        has_address = is_address(location)
        if storage_options and not has_address:
            raise TypeError(
                f"storage_options are only supported for addresses, not for the folder {location!r}"
            )
        self.location = without_secrets(str(location)) if has_address else Path(location).expanduser()
        super().__init__(
            storage_at(str(location), storage_options or {}) if has_address else Folder(Path(self.location)),
            SafetensorsFormat(),
            save_on_rank=save_on_rank,
            digest=digest,
            read_back=read_back,
        )
        if require_empty and rank() == save_on_rank:
            self.refuse_existing(
                f"{'address' if has_address else 'folder'} {str(self.location)!r}", filename_prefix
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.location)!r})"
