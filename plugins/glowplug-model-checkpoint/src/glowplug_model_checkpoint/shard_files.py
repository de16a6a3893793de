"""Files of a sharded checkpoint, which ``torch.distributed.checkpoint`` (DCP) writes, each rank its own.

DCP reads its metadata with ``pickle``, which can run code from the file. Therefore DCP gets only tensors, and the metadata is read
with an unpickler that accepts nothing but the classes of DCP's metadata.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from glowplug.distributed import is_initialized, rank
from glowplug_model_checkpoint.sealing import DamagedCheckpointError

__all__ = ["files_of_rank", "read_shards", "write_shards"]

_METADATA = ".metadata"
_ALLOWED = {
    "torch.distributed.checkpoint.metadata": {
        *("Metadata", "TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata", "MetadataIndex"),
        *("StorageMeta", "_MEM_FORMAT_ENCODING"),
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
}


def write_shards(folder: Path, tensors: Mapping[str, Any]) -> None:
    """Write the part of each rank of some tensors, and sync the files to disk. All ranks must call this function.

    Args:
        folder: An empty folder that all ranks can access.
        tensors: Tensors by name; all ranks have the same names.

    Raises:
        Exception: If a rank cannot write its files; each rank raises an exception.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_shards(Path(folder), {"weight": torch.ones(2)})
        ...     read_shards(Path(folder))
        {'weight': tensor([1., 1.])}
    """
    writer = FileSystemWriter(folder, sync_files=True)
    try:
        with _without_hints():
            save(dict(tensors), storage_writer=writer, no_dist=not is_initialized())
    except CheckpointException as error:
        # It is no Exception, and its message contains the tracebacks of all ranks.
        failures = {number: problem for number, (problem, _) in error.failures.items()}
        failed = rank() if rank() in failures else next(iter(failures))
        problem = failures[failed]
    else:
        return
    if failed == rank() and isinstance(problem, Exception):
        raise problem
    raise RuntimeError(f"rank {failed} failed: {type(problem).__name__}: {problem}")


def files_of_rank(folder: Path, number: int) -> Iterator[Path]:
    """Yield the files that a rank has written."""
    for path in sorted(folder.iterdir()):
        is_own = path.name.startswith(f"__{number}_") or (path.name == _METADATA and number == 0)
        if is_own:
            yield path


def read_shards(folder: Path) -> dict[str, torch.Tensor]:
    """Return whole tensors on the CPU. Any rank may call this function alone, on any number of ranks.

    Raises:
        FileNotFoundError: If a file does not exist.
        DamagedCheckpointError: If the metadata describe anything other than tensors.
    """
    metadata = _read_metadata(folder)
    tensors = {
        name: torch.empty(each.size, dtype=each.properties.dtype)
        for name, each in metadata.state_dict_metadata.items()
        if isinstance(each, TensorStorageMetadata)
    }
    with _without_hints():
        load(dict(tensors), storage_reader=_Reader(folder, metadata), no_dist=True)
    return tensors


class _Reader(FileSystemReader):
    """Reads tensors with metadata that have been read before."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(folder)
        self._metadata = metadata

    def read_metadata(self) -> Metadata:
        return self._metadata


class _Unpickler(pickle.Unpickler):
    """Loads the metadata of tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name in _ALLOWED.get(module, ()):
            return super().find_class(module, name)
        if module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        raise DamagedCheckpointError(f"its {_METADATA} contains {module}.{name}, which is not loaded")


def _read_metadata(folder: Path) -> Metadata:
    with (folder / _METADATA).open("rb") as file:
        metadata = _Unpickler(file).load()
    if not isinstance(metadata, Metadata) or not all(
        isinstance(each, TensorStorageMetadata) for each in metadata.state_dict_metadata.values()
    ):
        raise DamagedCheckpointError(f"its {_METADATA} describes more than tensors")
    return metadata


@contextmanager
def _without_hints() -> Iterator[None]:
    """Ignore the warnings in which torch says that it does not communicate, and how it copies tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
