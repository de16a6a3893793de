"""The objects of a checkpoint: a tree whose leaves have a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from glowplug.distributed import rank, world_size
from glowplug_model_checkpoint.filenames import check_part

__all__ = ["check_objects", "load_states", "read", "states"]


def check_objects(to_save: object) -> Mapping[str, Any]:
    """Return ``to_save``, if it is a mapping of names to objects with a state.

    Args:
        to_save: its values may be mappings, lists and tuples of such objects, to any depth.

    Raises:
        TypeError: no mapping, a name that is no string, or an object without ``state_dict``.
        ValueError: a name that cannot be part of a file name.

    Example:
        >>> check_objects({"model": 3})
        Traceback (most recent call last):
        ...
        TypeError: to_save['model'] has no state_dict(): 3
    """
    if not isinstance(to_save, Mapping):
        raise TypeError(f"to_save must be a mapping such as {{'model': model}}, got {to_save!r}")
    for name in to_save:
        check_part("a key of to_save", name)
    for path, leaf in _leaves(to_save, "to_save"):
        if not callable(getattr(leaf, "state_dict", None)):
            raise TypeError(f"{path} has no state_dict(): {leaf!r}")
    return to_save


def states(tree: Any, save_on_rank: int, is_alone: bool = False) -> Any:
    """Return the states of a tree of objects: dicts and lists in the places of mappings and sequences.

    Every rank has to call it, unless ``is_alone``, since some objects gather their state from all of them.

    Args:
        tree: what :func:`check_objects` returned, or a part of it.
        save_on_rank: where an optimizer that is spread over the ranks is put together.
        is_alone: the other ranks do not take part.

    Raises:
        RuntimeError: an object needs the other ranks, which do not take part.

    Example:
        >>> from torch import nn
        >>> list(states({"model": nn.Linear(2, 1)}, save_on_rank=0)["model"])
        ['weight', 'bias']
    """
    children = _children(tree)
    if children is not None:
        values = {key: states(value, save_on_rank, is_alone) for key, value in children}
        return values if isinstance(tree, Mapping) else list(values.values())
    if hasattr(tree, "consolidate_state_dict"):  # ZeroRedundancyOptimizer
        if is_alone and world_size() > 1:
            raise RuntimeError(
                f"the state of {type(tree).__name__} is put together from all ranks, which cannot be done when one of them "
                "fails; leave it out of what is saved on EXCEPTION_RAISED"
            )
        tree.consolidate_state_dict(to=save_on_rank)
        return tree.state_dict() if rank() == save_on_rank else {}
    return _unwrapped(tree).state_dict()


def load_states(
    to_load: Mapping[str, Any], checkpoint: Mapping[str, Any], module_kwargs: Mapping[str, Any]
) -> None:
    """Load the states of a checkpoint into objects: all of them, or none if one is missing.

    Args:
        to_load: the objects, in the same tree as they were saved in; keys of the checkpoint that it lacks are ignored.
        checkpoint: the states; for a single object also its bare state.
        module_kwargs: for ``nn.Module.load_state_dict``, such as ``strict=False``.

    Raises:
        TypeError: an object without ``load_state_dict``.
        ValueError: the checkpoint lacks the state of an object.

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
    """Return the content of a checkpoint file, on the CPU; nothing in it can run.

    Raises:
        RuntimeError: a torch whose ``weights_only`` loading is known to be unsafe.
        pickle.UnpicklingError: the file holds more than tensors and plain values.
    """
    if torch.__version__ < "2.10":
        raise RuntimeError(
            f"loading checkpoints safely needs torch 2.10 or later, this is {torch.__version__}"
        )
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
            raise ValueError(
                f"there is no {path}[{key!r}]; what is there: {list(known) or type(state).__name__}"
            )
        yield from _matched(value, known[key], f"{path}[{key!r}]")


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = _children(tree)
    if children is None:
        yield path, tree
        return
    for key, value in children:
        yield from _leaves(value, f"{path}[{key!r}]")


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    """Return the keys and values of a mapping or a sequence; ``None`` for a leaf."""
    if hasattr(tree, "state_dict"):
        return None
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, Sequence) and not isinstance(tree, (str, bytes)):
        return list(enumerate(tree))
    return None


def _unwrapped(leaf: Any) -> Any:
    """Return the model inside of a parallel wrapper, so that its state fits a model without one."""
    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    return leaf.module if isinstance(leaf, wrappers) else leaf
