"""Content of a checkpoint: the states of the objects to save, gathered from the ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from glowplug.distributed import rank, world_size
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, new_hasher
from glowplug_model_checkpoint.objects import leaves, mapped
from glowplug_model_checkpoint.ranks import everywhere
from glowplug_model_checkpoint.sharding import check_sharding, gathered, shards_in
from glowplug_model_checkpoint.weights import weights

__all__ = ["states"]


@dataclass
class _Part:
    """An object to save with its state."""

    path: str
    leaf: Any
    state: Any = None

    @property
    def consolidates(self) -> bool:
        """Whether the object is a ZeroRedundancyOptimizer, which gathers its state itself."""
        return hasattr(self.leaf, "consolidate_state_dict")


def states(
    to_save: Mapping[str, Any], save_on_rank: int, is_alone: bool = False, *, keeps_shards: bool = False
) -> Any:
    """Return the states of objects as nested dicts and lists, with the names and nesting of the objects.

    Sharded tensors are gathered from all ranks, so all ranks must call this function unless ``is_alone`` is true. First, each rank
    collects its states. Only after this has succeeded on all ranks, the ranks communicate, so no rank waits for one that failed.

    Args:
        to_save: Mapping that :func:`check_objects` returned.
        save_on_rank: Rank that receives the whole states; the states on other ranks are incomplete.
        is_alone: Whether only this rank calls the function.
        keeps_shards: Whether to keep DTensors, for a save handler that stores them by rank.

    Raises:
        RuntimeError: If an object gathers its state from all ranks, but only this rank calls the function, or if another rank fails.
        TypeError: If an object is sharded in a way that is not supported.

    Example:
        >>> from torch import nn
        >>> list(states({"model": nn.Linear(2, 1)}, save_on_rank=0)["model"])
        ['weight', 'bias']
    """
    parts = [_Part(path, leaf) for path, leaf in leaves(to_save, "to_save")]
    if is_alone:
        _collect(parts)
        if world_size() > 1:
            _refuse_shards(parts)
    else:
        _check_equal(everywhere(lambda: _collect(parts)))
        for part in parts:
            if part.consolidates:
                part.leaf.consolidate_state_dict(to=save_on_rank)
                part.state = part.leaf.state_dict() if rank() == save_on_rank else {}
            elif not keeps_shards:
                part.state = gathered(part.state, save_on_rank)
    found = {part.path: part.state for part in parts}
    return mapped(to_save, "to_save", lambda path, _: found[path])


def _collect(parts: list[_Part]) -> tuple[int, str]:
    """Collect the states of this rank, and return the number of sharded tensors and a digest of their names and shapes."""
    for part in parts:
        check_sharding(part.path, part.leaf, None)
        if part.consolidates:
            continue
        is_module = isinstance(part.leaf, torch.nn.Module)
        part.state = weights(part.leaf) if is_module else part.leaf.state_dict()
        check_sharding(part.path, part.leaf, part.state)
    found = [
        f"{part.path} {keys} {tuple(tensor.shape)}"
        for part in parts
        for keys, tensor in shards_in(part.state)
    ]
    hasher = new_hasher(DEFAULT_DIGEST)
    hasher.update("\n".join(found).encode())
    return len(found), hasher.hexdigest()


def _check_equal(tensors: list[tuple[int, str]]) -> None:
    """Check that all ranks gather the same tensors in the same order; otherwise, they would wait for each other."""
    for other, found in enumerate(tensors):
        if found != tensors[0]:
            raise RuntimeError(
                f"the {found[0]} sharded tensors of rank {other} differ from the {tensors[0][0]} of rank 0 in name, shape or order; "
                "pass the same objects to save on all ranks"
            )


def _refuse_shards(parts: list[_Part]) -> None:
    """Refuse objects that gather their state, because the other ranks do not take part."""
    for part in parts:
        if part.consolidates or next(shards_in(part.state), None) is not None:
            raise RuntimeError(
                f"{part.path} ({type(part.leaf).__name__}) gathers its state from all ranks, which is impossible after an "
                "exception on one rank; do not save it at EXCEPTION_RAISED"
            )
