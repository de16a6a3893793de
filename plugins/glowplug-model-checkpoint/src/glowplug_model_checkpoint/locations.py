"""Folders and addresses of checkpoints, and the save handlers for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glowplug.distributed import rank
from glowplug.plugins import save_handler as handler_of_address
from glowplug.typing import SaveHandler, VerifyingSaveHandler
from glowplug_model_checkpoint.addresses import is_address, without_secrets
from glowplug_model_checkpoint.checkpoint_file import Loaded, load
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Digest
from glowplug_model_checkpoint.disk_saver import DiskSaver
from glowplug_model_checkpoint.file_saver import FileSaver, refuse_existing
from glowplug_model_checkpoint.filenames import EXTENSION
from glowplug_model_checkpoint.fsspec_saver import FsspecSaver
from glowplug_model_checkpoint.safetensors_file import SafetensorsFormat
from glowplug_model_checkpoint.safetensors_saver import SafetensorsSaver
from glowplug_model_checkpoint.save_handler import FunctionSaver

__all__ = [
    "extension_of",
    "handler_at",
    "handler_for",
    "is_collective",
    "load_at",
    "load_from",
    "saver_at",
    "store_at",
    "store_of",
]


def handler_at(address: str) -> SaveHandler:
    """Return the save handler that an installed plugin provides for an address.

    Args:
        address: Address such as ``"s3://bucket/run"``.

    Raises:
        PluginNotFoundError: If no plugin handles the address.
        TypeError: If the plugin's save handler lacks methods of :class:`glowplug.typing.SaveHandler`.
    """
    handler: object = handler_of_address(address)
    if not isinstance(handler, SaveHandler):
        methods = ("save", "load", "list", "remove", "locate")
        missing = [name for name in methods if not hasattr(handler, name)]
        raise TypeError(
            f"the save handler {type(handler).__name__} for {without_secrets(address)!r} lacks methods of "
            f"glowplug.typing.SaveHandler: {', '.join(missing)}; ask the authors of the plugin to add these methods"
        )
    return handler


def handler_for(save_handler: Any, save_on_rank: int, filename_prefix: str, *, require_empty: bool) -> Any:
    """Return the save handler for a folder or an address; a save handler or function is returned unchanged.

    Args:
        save_handler: What the user passed.
        save_on_rank: Rank that writes the checkpoints.
        filename_prefix: Prefix of the files, for ``require_empty``.
        require_empty: Refuse a folder or address that already contains checkpoints with this prefix.

    Raises:
        PluginNotFoundError: If no plugin handles the address.
        ImportError: If the driver for the address is not installed.
        ValueError: If the save handler writes on another rank, or if the folder or address is refused.
    """
    if is_address(save_handler):
        return saver_at(
            save_handler,
            save_on_rank=save_on_rank,
            filename_prefix=filename_prefix,
            require_empty=require_empty,
        )
    if isinstance(save_handler, (str, Path)):
        return DiskSaver(
            save_handler,
            save_on_rank=save_on_rank,
            filename_prefix=filename_prefix,
            require_empty=require_empty,
        )
    if isinstance(save_handler, FileSaver):
        if save_handler.save_on_rank != save_on_rank:
            raise ValueError(
                f"save_on_rank is {save_handler.save_on_rank} for the {type(save_handler).__name__} but {save_on_rank} for "
                "Checkpoint, so nothing would be written; pass the same value to both"
            )
        save_handler.storage.check()
    if is_collective(save_handler) and save_on_rank != 0:
        raise ValueError(
            f"{type(save_handler).__name__} saves on all ranks (its attribute collective is true), so save_on_rank must be 0; got "
            f"{save_on_rank}"
        )
    return save_handler


def saver_at(
    address: str,
    *,
    save_on_rank: int,
    filename_prefix: str,
    require_empty: bool,
    digest: Digest = DEFAULT_DIGEST,
    read_back: bool = False,
) -> SaveHandler:
    """Return the save handler for an address at which a run will save.

    Args:
        address: Address such as ``"s3://bucket/run"``.
        save_on_rank: Rank that writes the checkpoints.
        filename_prefix: Prefix of the files, for ``require_empty``.
        require_empty: Refuse an address that already contains checkpoints with this prefix.
        digest: Kind of the digest, if this package writes the files.
        read_back: Whether to read each file again, if this package writes the files.

    Raises:
        PluginNotFoundError: If no plugin handles the address.
        ImportError: If the driver for the address is not installed.
        ValueError: If ``require_empty`` refuses the address.
    """
    handler = handler_at(address)
    if isinstance(handler, FsspecSaver):
        handler.storage.check()
        handler = handler.with_options(save_on_rank=save_on_rank, digest=digest, read_back=read_back)
    if require_empty and rank() == save_on_rank:
        place = f"address {without_secrets(address)!r}"
        refuse_existing(handler.list(), place, filename_prefix, extension_of(handler))
    return handler


def store_of(save_handler: Any) -> SaveHandler:
    """Return a save handler that implements :class:`SaveHandler`; a function is wrapped.

    Example:
        >>> type(store_of(lambda checkpoint, filename: None)).__name__
        'FunctionSaver'
    """
    return save_handler if isinstance(save_handler, SaveHandler) else FunctionSaver(save_handler)


def extension_of(store: SaveHandler, default: str = EXTENSION) -> str:
    """Return the extension of the files of a save handler, without the dot.

    A save handler whose files are not those of ``torch.save`` has its own extension in the attribute ``extension``.

    Example:
        >>> extension_of(store_of(lambda checkpoint, filename: None))
        'pt'
    """
    return str(getattr(store, "extension", default))


def is_collective(store: SaveHandler) -> bool:
    """Return whether all ranks call ``save`` together, each with its part of sharded tensors.

    Example:
        >>> is_collective(store_of(lambda checkpoint, filename: None))
        False
    """
    return getattr(store, "collective", False) is True


def store_at(location: object) -> SaveHandler | None:
    """Return the save handler for a folder, an address or a save handler; ``None`` if the folder does not exist.

    Raises:
        PluginNotFoundError: If no plugin handles the address.
        TypeError: If the location is none of the three.
    """
    if isinstance(location, SaveHandler):
        return location
    if is_address(location):
        return handler_at(str(location))
    if not isinstance(location, (str, Path)):
        raise TypeError(
            f"a location of checkpoints is a folder, an address or a save handler that can list them; got {location!r}"
        )
    folder = Path(location).expanduser()
    return DiskSaver(folder, create_dir=False, require_empty=False) if folder.is_dir() else None


def load_at(location: str | Path) -> Loaded:
    """Load the checkpoint at a path or an address; a folder is a sharded checkpoint, and the extension tells a safetensors file.

    The part of an address before the last slash determines the save handler that loads the checkpoint.

    Args:
        location: A path, or an address that a save handler's ``locate`` returned, such as ``"s3://bucket/run/model_1.pt"``.

    Raises:
        PluginNotFoundError: If no plugin handles the address.
        DamagedCheckpointError: If the checkpoint is damaged.
    """
    has_tensors_only = str(location).endswith(f".{SafetensorsFormat.extension}")
    if not is_address(location):
        path = Path(location)
        if path.is_dir():
            # It imports a large part of torch.
            from glowplug_model_checkpoint.sharded_saver import ShardedSaver

            return load_from(ShardedSaver(path.parent), path.name)
        if not has_tensors_only:
            return load(location)
        with Path(location).open("rb") as file:
            return SafetensorsFormat().load(file, location)
    folder, _, filename = str(location).rpartition("/")
    store = handler_at(folder)
    if has_tensors_only and isinstance(store, FsspecSaver):
        store = SafetensorsSaver(folder)
    return load_from(store, filename)


def load_from(store: SaveHandler, filename: str) -> Loaded:
    """Load a checkpoint of a save handler, with its metadata if the save handler stores metadata."""
    if isinstance(store, FileSaver) and type(store).load is FileSaver.load:
        return store.load_with_metadata(filename)
    metadata = store.metadata(filename) if isinstance(store, VerifyingSaveHandler) else None
    return Loaded(store.load(filename), metadata)
