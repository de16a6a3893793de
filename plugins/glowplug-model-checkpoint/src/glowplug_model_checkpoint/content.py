"""Content of a checkpoint: the states of the objects to save, gathered from the ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from glowplug.distributed import rank, world_size
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, new_hasher
from glowplug_model_checkpoint.objects import leaves, mapped, path_of
from glowplug_model_checkpoint.per_rank import KEY, can_differ, digest_of, entry_of, gathered_to, nested
from glowplug_model_checkpoint.ranks import everywhere
from glowplug_model_checkpoint.sharding import check_sharding, gathered, shards_in
from glowplug_model_checkpoint.weights import weights

__all__ = ["content_of"]


@dataclass
class _Part:
    """An object to save, with its keys in the tree of objects, and its state."""

    keys: tuple[Any, ...]
    leaf: Any
    state: Any = None

    @property
    def path(self) -> str:
        """The name of the object in messages."""
        return path_of("to_save", self.keys)

    @property
    def consolidates(self) -> bool:
        """Whether the object is a ZeroRedundancyOptimizer, which gathers its state itself."""
        return hasattr(self.leaf, "consolidate_state_dict")

    @property
    def can_differ(self) -> bool:
        """Whether each rank may have its own state."""
        return can_differ(self.leaf, self.state)


class _Summary(NamedTuple):
    """What the other ranks need to know about the states of a rank."""

    shards: int
    digest_of_shards: str
    # By the position of the object, for objects whose states can differ.
    digests: dict[int, str]


def content_of(
    to_save: Mapping[str, Any],
    more: Mapping[str, Any],
    save_on_rank: int,
    *,
    is_alone: bool = False,
    keeps_shards: bool = False,
) -> Any:
    """Return what a checkpoint contains: nested dicts and lists with the names and nesting of the objects.

    The states of sharded objects are gathered from all ranks, and so are states that differ between ranks. All ranks must call this
    function unless ``is_alone`` is true. First, each rank collects its states. Only after this has succeeded on all ranks, the ranks
    communicate, so no rank waits for one that failed.

    Args:
        to_save: Mapping that :func:`check_objects` returned.
        more: Additional states by name. Without them, the content for a single object is the bare state of the object.
        save_on_rank: Rank that gets the whole content; the content on other ranks is incomplete.
        is_alone: Whether only this rank calls the function.
        keeps_shards: Whether to keep DTensors, for a save handler that stores the part of each rank.

    Raises:
        RuntimeError: If an object gathers its state from all ranks, but only this rank calls the function, or if another rank fails.
        TypeError: If an object is sharded in a way that is not supported, or if a single object has a state that differs between
            ranks and is not a mapping.

    Example:
        >>> from torch import nn
        >>> list(content_of({"model": nn.Linear(2, 1)}, {}, save_on_rank=0))
        ['weight', 'bias']
    """
    parts = [_Part(keys, leaf) for keys, leaf in leaves(to_save)]
    if is_alone:
        _collect(parts)
        differing: dict[int, dict[tuple[Any, ...], Any]] = {}
        if world_size() > 1:
            _refuse_shards(parts)
    else:
        summaries = everywhere(lambda: _collect(parts))
        _check_equal(summaries)
        _gather(parts, save_on_rank, keeps_shards)
        differing = _exchange(parts, [summary.digests for summary in summaries], save_on_rank)
    found = {part.keys: part.state for part in parts}
    content = {**mapped(to_save, lambda keys, _: found[keys]), **more}
    is_bare = len(content) == 1
    if world_size() == 1 or not any(part.can_differ for part in parts):
        return next(iter(content.values())) if is_bare else content
    missing = [each for each in range(world_size()) if each != rank()] if is_alone else []
    states = {number: nested(values) for number, values in differing.items()}
    return _with_ranks(content, states, missing, is_bare)


def _collect(parts: list[_Part]) -> _Summary:
    """Collect the states of this rank."""
    for part in parts:
        check_sharding(part.path, part.leaf, None)
        if part.consolidates:
            continue
        is_module = isinstance(part.leaf, torch.nn.Module)
        part.state = weights(part.leaf) if is_module else part.leaf.state_dict()
        check_sharding(part.path, part.leaf, part.state)
    if world_size() == 1:
        return _Summary(0, "", {})
    shards = [
        f"{part.path} {keys} {tuple(tensor.shape)}"
        for part in parts
        for keys, tensor in shards_in(part.state)
    ]
    hasher = new_hasher(DEFAULT_DIGEST)
    hasher.update("\n".join(shards).encode())
    digests = {index: digest_of(part.state) for index, part in enumerate(parts) if part.can_differ}
    return _Summary(len(shards), hasher.hexdigest(), digests)


def _check_equal(summaries: list[_Summary]) -> None:
    """Check that all ranks gather the same tensors in the same order; otherwise, they would wait for each other."""
    first = summaries[0]
    for other, found in enumerate(summaries):
        if found[:2] != first[:2]:
            raise RuntimeError(
                f"the {found.shards} sharded tensors of rank {other} differ from the {first.shards} of rank 0 in name, shape or "
                "order; pass the same objects to save on all ranks"
            )
        if found.digests.keys() != first.digests.keys():
            raise RuntimeError(
                f"the objects to save on rank {other} differ in number, type or order from those of rank 0; pass the same objects to "
                "save on all ranks"
            )


def _gather(parts: list[_Part], save_on_rank: int, keeps_shards: bool) -> None:
    """Gather the sharded states."""
    for part in parts:
        if part.consolidates:
            part.leaf.consolidate_state_dict(to=save_on_rank)
            part.state = part.leaf.state_dict() if rank() == save_on_rank else {}
        elif not keeps_shards:
            part.state = gathered(part.state, save_on_rank)


def _exchange(
    parts: list[_Part], digests: list[dict[int, str]], save_on_rank: int
) -> dict[int, dict[tuple[Any, ...], Any]]:
    """Gather the states that differ from those of rank 0, and put those of rank 0 in their usual place.

    Returns:
        By rank, the states by the keys of the objects; only on the rank ``save_on_rank``.
    """
    first = digests[0]
    differing = {index for own in digests for index, digest in own.items() if digest != first[index]}
    if not differing:
        return {}
    own = digests[rank()]
    sent = {index: parts[index].state for index in differing if rank() == 0 or own[index] != first[index]}
    received = gathered_to(sent, save_on_rank)
    if received is None:
        return {}
    for index, state in received[0].items():
        parts[index].state = state
    return {
        number: {parts[index].keys: state for index, state in states.items()}
        for number, states in enumerate(received)
        if number and states
    }


def _with_ranks(content: dict[str, Any], states: Mapping[int, Any], missing: list[int], is_bare: bool) -> Any:
    """Return the content with the states of other ranks under their own key."""
    if not is_bare:
        return {**content, KEY: entry_of(states, missing)}
    [(name, only)] = content.items()
    if isinstance(only, Mapping):
        return {**only, KEY: entry_of({number: found[name] for number, found in states.items()}, missing)}
    if states:
        raise TypeError(
            f"the state of to_save[{name!r}] differs between ranks and is a {type(only).__name__}, which has no place for the states "
            "of the other ranks; return a mapping from state_dict(), or save another object with it"
        )
    return only


def _refuse_shards(parts: list[_Part]) -> None:
    """Refuse objects that gather their state, because the other ranks do not take part."""
    for part in parts:
        if part.consolidates or next(shards_in(part.state), None) is not None:
            raise RuntimeError(
                f"{part.path} ({type(part.leaf).__name__}) gathers its state from all ranks, which is impossible after an "
                "exception on one rank; do not save it at EXCEPTION_RAISED"
            )
