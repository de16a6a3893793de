"""Finding and loading of checkpoints into objects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from glowplug.distributed import rank
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import SaveHandler, VerifyingSaveHandler
from glowplug_model_checkpoint.checkpoint_file import Loaded
from glowplug_model_checkpoint.filenames import EXTENSION
from glowplug_model_checkpoint.finding import by_score, by_step, first_usable
from glowplug_model_checkpoint.locations import load_at, load_from
from glowplug_model_checkpoint.objects import load_states
from glowplug_model_checkpoint.ranks import together

__all__ = ["find", "find_and_load", "load_into", "load_objects"]

T = TypeVar("T")


class _Named(NamedTuple):
    filename: str
    loaded: Loaded


def find(
    store: SaveHandler, filename_prefix: str, which: str, by: str | None = None, ext: str = EXTENSION
) -> str | None:
    """Return the file name of the latest or best checkpoint that is not damaged; ``None`` if there is none.

    Args:
        store: The save handler.
        filename_prefix: Prefix of the checkpoint.
        which: ``"latest"`` or ``"best"``.
        by: Name of the score, if the checkpoints have several.
        ext: Extension of the files, without the dot.

    Raises:
        ValueError: If ``which`` is unknown, or the score is unknown or ambiguous.
        Exception: If the save handler cannot list its checkpoints.
    """

    def verified(filename: str) -> str:
        # A checkpoint without a digest is loaded to see whether it is complete.
        if not (isinstance(store, VerifyingSaveHandler) and store.verify(filename)):
            with warnings.catch_warnings():
                # The user is warned when the checkpoint is used.
                warnings.simplefilter("ignore", GlowplugWarning)
                store.load(filename)
        return filename

    return _first(store, filename_prefix, which, by, verified, ext)


def find_and_load(
    store: SaveHandler, filename_prefix: str, which: str, by: str | None = None, ext: str = EXTENSION
) -> tuple[str, Loaded] | None:
    """Load the latest or best checkpoint that is not damaged, on all ranks; rank 0 chooses it.

    Args:
        store: The save handler.
        filename_prefix: Prefix of the checkpoint.
        which: ``"latest"`` or ``"best"``.
        by: Name of the score, if the checkpoints have several.
        ext: Extension of the files, without the dot.

    Raises:
        ValueError: If ``which`` is unknown, or the score is unknown or ambiguous.
        Exception: If the save handler cannot list its checkpoints.
    """
    chosen: list[_Named] = []

    def choose() -> str | None:
        if rank() != 0:
            return None
        found = _first(
            store, filename_prefix, which, by, lambda name: _Named(name, load_from(store, name)), ext
        )
        chosen.extend([] if found is None else [found])
        return None if found is None else found.filename

    filename = together(choose)
    if filename is None:
        return None
    return filename, chosen[0].loaded if chosen else load_from(store, filename)


def load_objects(
    to_load: Mapping[str, Any], checkpoint: str | Path | Mapping[str, Any], **kwargs: Any
) -> None:
    """Load a checkpoint into objects without running code from the file.

    The names of weights need not contain those of wrappers: a checkpoint of a plain model loads into a model in ``torch.compile``,
    ``DistributedDataParallel`` or both, and the other way round.

    Args:
        to_load: Mapping of names to objects, with the same names as in ``to_save``. Keys of the checkpoint that are not in
            ``to_load`` are ignored. For a single object, the checkpoint may be the bare state of the object.
        checkpoint: A file, an address such as ``"s3://bucket/run/model_1.pt"``, or a mapping that is already loaded.
        **kwargs: Arguments of ``torch.nn.Module.load_state_dict``, such as ``strict=False``.

    Raises:
        TypeError: If an object has no ``load_state_dict()``, or if the checkpoint does not contain a mapping.
        ValueError: If the checkpoint is damaged (:class:`DamagedCheckpointError`), or lacks the state of an object. After this
            error, no object has been loaded.

    Example:
        >>> from torch import nn
        >>> model, saved = nn.Linear(2, 1), {"model": nn.Linear(2, 1).state_dict()}
        >>> load_objects({"model": model}, saved)
        >>> bool((model.weight == saved["model"]["weight"]).all())
        True
    """
    loaded = load_at(checkpoint) if isinstance(checkpoint, (str, Path)) else Loaded(checkpoint, None)
    if not isinstance(loaded.content, Mapping):
        raise TypeError(
            "checkpoint must be a mapping of names to states, or a file or address that contains one; got "
            f"{type(loaded.content).__name__} ({checkpoint!r})"
        )
    load_into(to_load, loaded, kwargs)


def load_into(to_load: Mapping[str, Any], loaded: Loaded, module_kwargs: Mapping[str, Any]) -> None:
    """Load a checkpoint that was read into objects, as :func:`load_objects` does."""
    is_bare = None if loaded.metadata is None else loaded.metadata.get("is_bare")
    load_states(to_load, loaded.content, module_kwargs, is_bare=is_bare)


def _first(
    store: SaveHandler, filename_prefix: str, which: str, by: str | None, use: Callable[[str], T], ext: str
) -> T | None:
    if which == "latest":
        return first_usable(store, filename_prefix, by_step, use, ext)
    if which != "best":
        raise ValueError(f"which must be 'latest' or 'best'; got {which!r}")
    if not isinstance(store, VerifyingSaveHandler):
        raise TypeError(
            f"{type(store).__name__} does not store the scores of checkpoints, so the best one is unknown; use the method "
            "best_checkpoint of the handler, or a save handler that implements glowplug.typing.VerifyingSaveHandler"
        )
    return first_usable(store, filename_prefix, by_score(by), use, ext)
