"""States that differ between ranks, such as random numbers and positions in the data.

The content of a checkpoint has the state of rank 0 in the usual place. If the states of other ranks can differ, it has one more
key, :data:`KEY`, with a mapping:

- ``world_size``: the number of ranks that saved;
- ``states``: by rank, the states that differ from those of rank 0, with the same names and nesting as the content;
- ``missing``: the ranks whose states were not saved, because only one rank was left.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist

from glowplug.distributed import rank, world_size
from glowplug.engine import HandlerTable, reseeded
from glowplug.exceptions import GlowplugWarning
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Hasher, new_hasher
from glowplug_model_checkpoint.sharding import is_optimizer, mapped_tensors, shards_in

__all__ = ["KEY", "RankStates", "can_differ", "digest_of", "entry_of", "gathered_to", "nested"]

KEY = "glowplug_ranks"
_ONE_PROCESS: dict[str, Any] = {"world_size": 1, "states": {}, "missing": []}


def can_differ(leaf: object, state: object) -> bool:
    """Return whether the state of an object can differ between ranks: not that of a module, an optimizer or a sharded object.

    Example:
        >>> can_differ(torch.nn.Linear(1, 1), {}), can_differ(object(), {})
        (False, True)
    """
    is_common = (
        isinstance(leaf, torch.nn.Module) or is_optimizer(leaf) or hasattr(leaf, "consolidate_state_dict")
    )
    return not is_common and next(shards_in(state), None) is None


def digest_of(state: object) -> str:
    """Return a digest of a state; states with equal digests are equal.

    Example:
        >>> digest_of({"a": torch.ones(2)}) == digest_of({"a": torch.ones(2)})
        True
    """
    hasher = new_hasher(DEFAULT_DIGEST)
    _add(state, hasher)
    return hasher.hexdigest()


def gathered_to(states: Mapping[Any, Any], on_rank: int) -> list[Mapping[Any, Any]] | None:
    """Gather states from all ranks, with their tensors on the CPU.

    Args:
        states: States of this rank by name.
        on_rank: Rank that gets the states of all ranks, in the order of the ranks; other ranks get ``None``.

    Example:
        >>> gathered_to({"sampler": {"position": 3}}, on_rank=0)
        [{'sampler': {'position': 3}}]
    """
    sent = mapped_tensors(states, lambda tensor: tensor.detach().cpu())
    if world_size() == 1:
        return [sent]
    received: list[Any] | None = [None] * world_size() if rank() == on_rank else None
    dist.gather_object(sent, received, dst=on_rank)
    return received


def entry_of(states: Mapping[int, Any], missing: Sequence[int]) -> dict[str, Any]:
    """Return the value of :data:`KEY` in the content of a checkpoint.

    Args:
        states: By rank, the states that differ from those of rank 0.
        missing: Ranks whose states are not saved.

    Example:
        >>> entry_of({}, missing=[])
        {'world_size': 1, 'states': {}, 'missing': []}
    """
    return {"world_size": world_size(), "states": dict(states), "missing": list(missing)}


def nested(values: Mapping[tuple[Any, ...], Any]) -> dict[Any, Any]:
    """Return nested dicts for values with several keys each.

    Example:
        >>> nested({("samplers", 0): "a", ("samplers", 2): "b", ("trainer",): "c"})
        {'samplers': {0: 'a', 2: 'b'}, 'trainer': 'c'}
    """
    result: dict[Any, Any] = {}
    for keys, value in values.items():
        inner = result
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = value
    return result


class RankStates:
    """The states of this rank in a loaded checkpoint.

    Args:
        entry: Value of :data:`KEY`; ``None`` if the checkpoint has none because one process saved it.

    Raises:
        ValueError: If the entry is malformed.

    Example:
        >>> states = RankStates(None)
        >>> states.own("to_load['sampler']", ("sampler",), object(), {"position": 3})
        {'position': 3}
    """

    def __init__(self, entry: Any) -> None:
        try:
            values: dict[str, Any] = _ONE_PROCESS if entry is None else dict(entry)
            self._world_size, self._missing = int(values["world_size"]), list(values["missing"])
            self._states: dict[int, Any] = dict(values["states"])
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"the checkpoint's {KEY!r} cannot be read ({error!r})") from error
        self._has_own = rank() < self._world_size and rank() not in self._missing
        self._is_exact = self._world_size == world_size() and not self._missing
        self._inexact: list[str] = []

    def put_under(self, name: str) -> None:
        """Put the states, which are those of a single object, under the name of this object."""
        self._states = {number: {name: states} for number, states in self._states.items()}

    def own(self, path: str, keys: tuple[Any, ...], leaf: Any, state: Any) -> Any:
        """Return the state of an object on this rank.

        Args:
            path: Name of the object in a warning.
            keys: Keys of the object in the content.
            leaf: The object.
            state: Its state on rank 0.
        """
        if not can_differ(leaf, state):
            return state
        is_engine = isinstance(leaf, HandlerTable)
        differing = {number: found for number, states in self._states.items() if (found := _at(states, keys))}
        if not self._is_exact and (is_engine or differing):
            self._inexact.append(path)
        if self._has_own:
            return differing.get(rank(), state)
        return reseeded(state, rank()) if is_engine and rank() != 0 and isinstance(state, Mapping) else state

    def report(self) -> None:
        """Warn once, on rank 0, if the objects that were loaded do not continue exactly."""
        if not self._inexact or rank() != 0:
            return
        saved = f"{self._world_size} rank{'s' * (self._world_size != 1)}"
        cause = (
            f"was saved on one of {saved} after an exception"
            if self._missing
            else f"was saved on {saved} and is loaded on {world_size()}"
        )
        warnings.warn(
            f"the checkpoint {cause}, so the run does not resume exactly: in {', '.join(self._inexact)}, ranks without a "
            "saved state continue from that of rank 0 with other random numbers, and within an epoch the ranks may "
            "repeat or skip samples. To resume exactly, use the same number of ranks and a checkpoint of all ranks",
            GlowplugWarning,
            stacklevel=5,
        )


def _at(states: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        if not isinstance(states, Mapping) or key not in states:
            return None
        states = states[key]
    return states


def _add(value: Any, hasher: Hasher) -> None:
    """Add a value to a digest, with its type and length, so that different values have different digests."""
    hasher.update(f"{type(value).__qualname__} ".encode())
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous()
        hasher.update(f"{data.dtype} {tuple(data.shape)} ".encode())
        content: Any = data.reshape(-1).view(torch.uint8).numpy()
        hasher.update(content)
    elif isinstance(value, Mapping):
        hasher.update(f"{len(value)} ".encode())
        for key, each in value.items():
            _add(key, hasher)
            _add(each, hasher)
    elif isinstance(value, (list, tuple)):
        hasher.update(f"{len(value)} ".encode())
        for each in value:
            _add(each, hasher)
    else:
        content = pickle.dumps(value)
        hasher.update(f"{len(content)} ".encode())
        hasher.update(content)
