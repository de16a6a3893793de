"""File format: how a checkpoint is written to a file and read again."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

import torch

from glowplug_model_checkpoint import checkpoint_file
from glowplug_model_checkpoint.checkpoint_file import Loaded
from glowplug_model_checkpoint.digests import Digest
from glowplug_model_checkpoint.filenames import EXTENSION
from glowplug_model_checkpoint.manifest import Manifest

__all__ = ["FileFormat", "TorchFormat"]


class FileFormat(Protocol):
    """A format of files with a manifest and a digest of all bytes."""

    extension: str

    def write(
        self, content: Any, file: BinaryIO, metadata: Mapping[str, Any], digest: Digest, filename: str
    ) -> None:
        """Write a checkpoint to an empty file that is open for writing and reading.

        Args:
            content: The checkpoint.
            file: The file.
            metadata: Description of the checkpoint for the manifest.
            digest: Kind of the digest.
            filename: Name of the checkpoint in error messages.

        Raises:
            ValueError: If the format does not support the content.
        """

    def verify(self, file: BinaryIO) -> Manifest | None:
        """Read a whole file and compare it with its digest.

        Returns:
            The manifest, or ``None`` if the file has neither manifest nor digest.

        Raises:
            DamagedCheckpointError: If a bit of the file was changed, or if a part is missing.
        """

    def read_manifest(self, file: BinaryIO) -> Manifest | None:
        """Read only the manifest.

        Raises:
            DamagedCheckpointError: If the manifest is damaged.
        """

    def load(self, file: BinaryIO, location: object) -> Loaded:
        """Verify a file and load it to the CPU without running code from it.

        Args:
            file: The file, open for reading.
            location: Path or address of the file in warnings.

        Raises:
            DamagedCheckpointError: If the file does not match its digest.
        """


class TorchFormat:
    """What ``torch.save`` writes, with a manifest; any content that ``torch.load(weights_only=True)`` can load.

    Args:
        torch_options: Arguments of ``torch.save``.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> TorchFormat().write({"number": 3}, file, {"step": 1}, "sha256", "a.pt")
        >>> TorchFormat().load(file, "in memory")
        Loaded(content={'number': 3}, metadata={'step': 1})
    """

    extension = EXTENSION

    def __init__(self, torch_options: Mapping[str, Any] | None = None) -> None:
        self._torch_options = torch_options or {}

    def write(
        self, content: Any, file: BinaryIO, metadata: Mapping[str, Any], digest: Digest, filename: str
    ) -> None:
        """Write a checkpoint, and refuse it if ``torch.load(weights_only=True)`` would refuse it when a run resumes.

        Raises:
            ValueError: If the content has types that ``torch.load(weights_only=True)`` refuses.
        """
        checkpoint_file.write(content, file, metadata, digest, self._torch_options)
        _check_loadable(file, filename)

    def verify(self, file: BinaryIO) -> Manifest | None:
        """Compare a file with its digest."""
        return checkpoint_file.verify(file)

    def read_manifest(self, file: BinaryIO) -> Manifest | None:
        """Read only the end of a file, which has the manifest."""
        return checkpoint_file.read_manifest(file)

    def load(self, file: BinaryIO, location: object) -> Loaded:
        """Verify and load a file."""
        return checkpoint_file.load_from_file(file, location)


def _check_loadable(file: BinaryIO, filename: str) -> None:
    # Files in torch's older format cannot be inspected.
    if not zipfile.is_zipfile(file):
        return
    file.seek(0)
    refused = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    if refused:
        raise ValueError(
            f"{filename!r} was not saved because it contains types that torch.load(weights_only=True) refuses: "
            f"{', '.join(sorted(refused))}. Return tensors and plain Python values from state_dict(), or allow the types "
            "with torch.serialization.add_safe_globals([...])"
        )
