"""Trees of objects with a ``state_dict()``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from glowplug.distributed import rank, world_size
from glowplug_model_checkpoint.filenames import check_part

__all__ = ["check_objects", "load_states", "read", "states"]


def check_objects(to_save: object) -> Mapping[str, Any]:
    """Validate a mapping of names to objects with a ``state_dict()`` and return it.

    Args:
        to_save: Mapping whose values may be nested mappings, lists and tuples of such objects.

    Raises:
        TypeError: If it is not a mapping, a name is not a string, or an object has no ``state_dict()``.
        ValueError: If a name cannot be part of a file name.

    Example:
        >>> check_objects({"model": 3})
        Traceback (most recent call last):
        ...
        TypeError: to_save['model'] has no state_dict(): 3
    """
    if not isinstance(to_save, Mapping):
        raise TypeError(f"to_save must be a mapping such as {{'model': model}}; got {to_save!r}")
    for name in to_save:
        check_part("a key of to_save", name)
    for path, leaf in _leaves(to_save, "to_save"):
        if not callable(getattr(leaf, "state_dict", None)):
            raise TypeError(f"{path} has no state_dict(): {leaf!r}")
    return to_save


def states(tree: Any, save_on_rank: int, is_alone: bool = False) -> Any:
    """Return the states of a tree of objects as nested dicts and lists.

    Unless ``is_alone``, all ranks must call this function because some objects gather their state from all ranks.

    Args:
        tree: Result of :func:`check_objects`, or a part of it.
        save_on_rank: Rank that receives the full state of a sharded optimizer.
        is_alone: Whether the other ranks do not take part.

    Raises:
        RuntimeError: If an object needs the other ranks, but they do not take part.

    Example:
        >>> from torch import nn
        >>> list(states({"model": nn.Linear(2, 1)}, save_on_rank=0)["model"])
        ['weight', 'bias']
    """
    children = _children(tree)
    if children is not None:
        values = {key: states(value, save_on_rank, is_alone) for key, value in children}
        return values if isinstance(tree, Mapping) else list(values.values())
    # ZeroRedundancyOptimizer shards its state.
    if hasattr(tree, "consolidate_state_dict"):
        if is_alone and world_size() > 1:
            raise RuntimeError(
                f"{type(tree).__name__} gathers its state from all ranks, which is impossible after an exception on one "
                "rank; do not save it at EXCEPTION_RAISED"
            )
        tree.consolidate_state_dict(to=save_on_rank)
        return tree.state_dict() if rank() == save_on_rank else {}
    return _unwrapped(tree).state_dict()


def load_states(
    to_load: Mapping[str, Any], checkpoint: Mapping[str, Any], module_kwargs: Mapping[str, Any]
) -> None:
    """Load the states of a checkpoint into objects.

    No object is loaded if the state of any of them is missing.

    Args:
        to_load: Objects in the same tree as when they were saved. Other keys of the checkpoint are ignored.
        checkpoint: States of the objects, or the bare state of a single object.
        module_kwargs: Arguments of ``nn.Module.load_state_dict``, such as ``strict=False``.

    Raises:
        TypeError: If an object has no ``load_state_dict()``.
        ValueError: If the checkpoint lacks the state of an object.

    Example:
        >>> from torch import nn
        >>> saved = nn.Linear(2, 1).state_dict()
        >>> load_states({"model": nn.Linear(2, 1)}, saved, {})
    """
    for path, leaf in _leaves(to_load, "to_load"):
        if not callable(getattr(leaf, "load_state_dict", None)):
            raise TypeError(f"{path} has no load_state_dict(): {leaf!r}")
    if len(to_load) == 1 and next(iter(to_load)) not in checkpoint:
        checkpoint = dict.fromkeys(to_load, checkpoint)
    for leaf, state in list(_matched(to_load, checkpoint, "checkpoint")):
        target = _unwrapped(leaf)
        target.load_state_dict(state, **(module_kwargs if isinstance(target, torch.nn.Module) else {}))


def read(path: str | Path) -> Any:
    """Load a checkpoint file to the CPU without running code from it.

    Raises:
        RuntimeError: If ``weights_only`` loading is known to be unsafe in the installed version of torch.
        pickle.UnpicklingError: If the file contains more than tensors and plain values.
    """
    if torch.__version__ < "2.10":
        raise RuntimeError(f"loading checkpoints safely requires torch>=2.10; found {torch.__version__}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _matched(tree: Any, state: Any, path: str) -> Iterator[tuple[Any, Any]]:
    """Yield each object with its state."""
    children = _children(tree)
    if children is None:
        yield tree, state
        return
    known = dict(_children(state) or ())
    for key, value in children:
        if key not in known:
            raise ValueError(f"{path}[{key!r}] is missing; found {list(known) or type(state).__name__}")
        yield from _matched(value, known[key], f"{path}[{key!r}]")


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = _children(tree)
    if children is None:
        yield path, tree
        return
    for key, value in children:
        yield from _leaves(value, f"{path}[{key!r}]")


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    """Return the items of a mapping or sequence, or ``None`` for a leaf."""
    if hasattr(tree, "state_dict"):
        return None
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, Sequence) and not isinstance(tree, (str, bytes)):
        return list(enumerate(tree))
    return None


def _unwrapped(leaf: Any) -> Any:
    """Return the model inside a parallel wrapper, so that its state fits the bare model."""
    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    return leaf.module if isinstance(leaf, wrappers) else leaf
