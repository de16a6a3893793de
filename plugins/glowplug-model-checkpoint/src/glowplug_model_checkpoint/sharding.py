"""Sharded tensors: gathered for a checkpoint, and distributed again when the checkpoint is loaded.

``fully_shard`` (FSDP2) and tensor parallelism make parameters DTensors, of which each rank has a part. Older kinds of sharded
tensors cannot be gathered one by one, so the objects that have them are refused.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from glowplug.distributed import rank

__all__ = [
    "check_sharding",
    "distributed_like",
    "distributed_optimizer_state",
    "gathered",
    "has_shards",
    "has_tensors",
    "is_optimizer",
    "local_part",
    "mapped_tensors",
    "shards_in",
]

_REMEDY = "shard the model with torch.distributed.fsdp.fully_shard, whose parameters can be gathered"


def is_dtensor(value: object) -> bool:
    """Return whether a value is a DTensor; no DTensor exists before torch has imported their module.

    Example:
        >>> is_dtensor(torch.ones(1))
        False
    """
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def is_optimizer(leaf: object) -> bool:
    """Return whether an object has the parameters of an optimizer.

    Example:
        >>> is_optimizer(torch.optim.SGD([torch.ones(1)], lr=0.1))
        True
    """
    return isinstance(getattr(leaf, "param_groups", None), list)


def has_shards(modules: Iterable[nn.Module]) -> bool:
    """Return whether a parameter of the modules is sharded.

    Example:
        >>> has_shards([nn.Linear(1, 1)])
        False
    """
    return any(is_dtensor(each) for module in modules for each in module.parameters())


def has_tensors(state: object) -> bool:
    """Return whether a state contains a tensor.

    Example:
        >>> has_tensors([{"weight": torch.ones(1)}])
        True
    """
    return any(isinstance(value, torch.Tensor) for _, value in _leaves(state))


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor that this rank has.

    Example:
        >>> local_part(torch.ones(2))
        tensor([1., 1.])
    """
    part: Any = tensor
    return part.to_local() if is_dtensor(part) else part  # type: ignore[no-any-return]  # a tensor in both cases


def check_sharding(path: str, leaf: object, state: object) -> None:
    """Refuse an object with a sharded tensor that cannot be gathered.

    Args:
        path: Name of the object in the error.
        leaf: The object.
        state: Its state; ``None`` if it is not known yet.

    Raises:
        TypeError: If the object belongs to ``FullyShardedDataParallel``, or if the state contains a ``ShardedTensor``.
    """
    if _belongs_to_fsdp1(leaf):
        raise TypeError(f"{path} is sharded by FullyShardedDataParallel, which is not supported; {_REMEDY}")
    module = sys.modules.get("torch.distributed._shard.sharded_tensor")
    if module is None:
        return
    for keys, value in _leaves(state):
        if isinstance(value, module.ShardedTensor):
            where = ".".join(map(str, keys))
            raise TypeError(
                f"{path} has the ShardedTensor {where!r}, of which this rank has only a part; {_REMEDY}"
            )


def shards_in(state: object) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the DTensors in nested mappings, lists and tuples with their keys.

    Example:
        >>> list(shards_in({"weight": torch.ones(1)}))
        []
    """
    return ((keys, value) for keys, value in _leaves(state) if is_dtensor(value))


def gathered(state: Any, on_rank: int) -> Any:
    """Return a state with whole tensors in the place of DTensors.

    All ranks must call this function with equal states. Only one tensor at a time is gathered.

    Args:
        state: Nested mappings, lists and tuples.
        on_rank: Rank that gets the tensors, on its CPU; the other ranks get ``None`` for each of them.

    Example:
        >>> gathered({"weight": torch.ones(1)}, on_rank=0)
        {'weight': tensor([1.])}
    """
    is_target = rank() == on_rank

    def whole(tensor: Any) -> Any:
        if not is_dtensor(tensor):
            return tensor
        full = tensor.detach().full_tensor()
        return full.cpu() if is_target else None

    return mapped_tensors(state, whole)


def distributed_like(state: Any, like: Any) -> Any:
    """Return a state in which whole tensors are distributed like the DTensors of another state.

    A tensor whose shape differs is left unchanged, so that loading it reports the difference. Each rank takes its part of the
    tensors; there is no communication.

    Args:
        state: Nested mappings and lists with whole tensors.
        like: Nested mappings and lists with the DTensors.

    Example:
        >>> distributed_like({"weight": torch.ones(1)}, {"weight": torch.zeros(1)})
        {'weight': tensor([1.])}
    """
    if isinstance(state, torch.Tensor):
        if not is_dtensor(like) or is_dtensor(state) or state.shape != like.shape:
            return state
        from torch.distributed.tensor import distribute_tensor

        # The clone has its own storage; otherwise, a part of an optimizer's state would keep the whole tensor alive.
        return distribute_tensor(
            state.detach(), like.device_mesh, like.placements, src_data_rank=None
        ).clone()
    if isinstance(state, Mapping) and isinstance(like, Mapping):
        return _changed(state, {key: distributed_like(state[key], like[key]) for key in state if key in like})
    if isinstance(state, list) and isinstance(like, (list, tuple)) and len(state) == len(like):
        return [distributed_like(*pair) for pair in zip(state, like, strict=True)]
    return state


def distributed_optimizer_state(optimizer: Any, state: Any) -> Any:
    """Return the state of an optimizer in which each tensor with the shape of its parameter is distributed like the parameter.

    The optimizer need not have a state yet.

    Args:
        optimizer: The optimizer that will load the state.
        state: A state with integers for parameters, as ``torch.optim.Optimizer.state_dict`` returns it.

    Example:
        >>> optimizer = torch.optim.SGD([torch.ones(1)], lr=0.1)
        >>> distributed_optimizer_state(optimizer, optimizer.state_dict())["state"]
        {}
    """
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        return state
    parameters = {
        number: parameter
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=False)
        for number, parameter in zip(saved["params"], group["params"], strict=False)
        if is_dtensor(parameter)
    }
    changed = {
        number: mapped_tensors(values, partial(distributed_like, like=parameters[number]))
        for number, values in state["state"].items()
        if number in parameters
    }
    return {**state, "state": {**state["state"], **changed}}


def mapped_tensors(state: Any, function: Callable[[Any], Any]) -> Any:
    """Return a state with ``function(tensor)`` in the place of each tensor; parts without a change are not copied.

    Example:
        >>> mapped_tensors({"a": [torch.ones(1), 2]}, lambda tensor: tensor + 1)
        {'a': [tensor([2.]), 2]}
    """
    if isinstance(state, torch.Tensor):
        return function(state)
    if isinstance(state, Mapping):
        return _changed(state, {key: mapped_tensors(value, function) for key, value in state.items()})
    if isinstance(state, (list, tuple)):
        values = [mapped_tensors(value, function) for value in state]
        if all(new is old for new, old in zip(values, state, strict=True)):
            return state
        return type(state)(*values) if hasattr(state, "_fields") else type(state)(values)
    return state


def _changed(state: Mapping[Any, Any], values: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return a mapping with other values for some of its keys."""
    values = {key: value for key, value in values.items() if value is not state[key]}
    if not values:
        return state
    # A copy keeps the attribute in which torch stores the versions of the modules.
    result = copy.copy(state) if isinstance(state, dict) else dict(state)
    result.update(values)
    return result


def _leaves(state: object, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], object]]:
    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from _leaves(value, (*keys, key))
    elif isinstance(state, (list, tuple)):
        for index, value in enumerate(state):
            yield from _leaves(value, (*keys, index))
    else:
        yield keys, state


def _belongs_to_fsdp1(leaf: object) -> bool:
    module = sys.modules.get("torch.distributed.fsdp")
    if module is None:
        return False
    if isinstance(leaf, nn.Module):
        return any(isinstance(each, module.FullyShardedDataParallel) for each in leaf.modules())
    # FSDP marks the parameters of which it keeps a flat part.
    return is_optimizer(leaf) and any(
        getattr(parameter, "_fsdp_flattened", False)
        for group in leaf.param_groups  # type: ignore[attr-defined]  # an optimizer here
        for parameter in group["params"]
    )
