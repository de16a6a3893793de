"""A thin layer over ``torch.distributed``: the same calls with one process, and with many.

With one process (no process group, or one of size 1) every function returns at once, without a collective. Nothing here
starts a process group: call ``torch.distributed.init_process_group`` and launch with ``torchrun``.
All but :func:`rank`, :func:`world_size`, :func:`is_initialized` and :func:`rank_zero_only` are collectives: every
rank has to call them, in the same order.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    import torch

__all__ = [
    "agree_any",
    "all_gather",
    "all_reduce",
    "barrier",
    "broadcast",
    "is_initialized",
    "rank",
    "rank_zero_only",
    "world_size",
]

REDUCE_OPS = ("SUM", "PRODUCT", "MIN", "MAX")

_P = ParamSpec("_P")
_R = TypeVar("_R")


def is_initialized() -> bool:
    """Return whether there is a process group.

    Example:
        >>> is_initialized()
        False
    """
    # A process group needs torch; where nobody has imported it, nobody should have to wait for it.
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return the number of this process, from 0.

    Example:
        >>> rank()
        0
    """
    if not is_initialized():
        return 0
    import torch.distributed as dist

    return dist.get_rank()


def world_size() -> int:
    """Return how many processes there are.

    Example:
        >>> world_size()
        1
    """
    if not is_initialized():
        return 1
    import torch.distributed as dist

    return dist.get_world_size()


@overload
def all_reduce(value: torch.Tensor, op: str = "SUM") -> torch.Tensor: ...
@overload
def all_reduce(value: int, op: str = "SUM") -> int: ...
@overload
def all_reduce(value: float, op: str = "SUM") -> float: ...
def all_reduce(value: torch.Tensor | float, op: str = "SUM") -> torch.Tensor | float:
    """Return the sum (product, smallest, largest) of the values of all ranks.

    Args:
        value: a tensor of the same shape and dtype on every rank, or a number of the same type. It is not changed.
        op: ``"SUM"``, ``"PRODUCT"``, ``"MIN"`` or ``"MAX"``, element by element.

    Returns:
        A tensor on the device of ``value``; a number of its type: integers stay exact (64 bits), floats are 64 bits.

    Raises:
        ValueError: another ``op``.
        TypeError: neither a tensor nor a number.

    Example:
        >>> all_reduce(3)
        3
    """
    if op not in REDUCE_OPS:
        raise ValueError(f"op must be one of {', '.join(REDUCE_OPS)}, got {op!r}")
    is_tensor = _is_tensor(value)
    if not is_tensor and not isinstance(value, (int, float)):
        raise TypeError(
            f"all_reduce takes a tensor or a number, got {value!r} of type {type(value).__name__}"
        )
    if world_size() == 1:
        return value
    import torch
    import torch.distributed as dist

    if isinstance(value, torch.Tensor):
        reduced = value.detach().to(_device_for(value), copy=True).contiguous()
    else:
        dtype = torch.int64 if isinstance(value, int) else torch.float64
        reduced = torch.tensor(value, dtype=dtype, device=_default_device())
    dist.all_reduce(reduced, getattr(dist.ReduceOp, op))
    return reduced.to(value.device) if isinstance(value, torch.Tensor) else reduced.item()


@overload
def all_gather(value: torch.Tensor) -> torch.Tensor: ...  # type: ignore[overload-overlap]  # tensors go this way
@overload
def all_gather(value: _R) -> list[_R]: ...
def all_gather(value: Any) -> Any:
    """Return the values of all ranks, in the order of the ranks.

    Args:
        value: a tensor of the same dtype and the same shape behind dimension 0 on every rank (dimension 0 may differ),
            or anything that can be pickled.

    Returns:
        Tensors joined along dimension 0 (a tensor without dimensions counts as one of shape ``(1,)``); a list of the
        values otherwise.

    Example:
        >>> all_gather("a")
        ['a']
    """
    if not _is_tensor(value):
        return _all_gather_objects(value)
    import torch
    import torch.distributed as dist

    local = value.detach().reshape(value.shape or (1,))
    if world_size() == 1:
        return local
    lengths = _all_gather_objects(local.shape[0])
    padded = local.new_zeros((max(lengths), *local.shape[1:]), device=_device_for(local))
    padded[: local.shape[0]] = local
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)]).to(local.device)


def broadcast(value: _R, src: int = 0) -> _R:
    """Return the value of one rank on all ranks.

    Args:
        value: a tensor, or anything that can be pickled; only that of ``src`` is looked at, but for its device.
        src: the rank whose value it is.

    Returns:
        The value of ``src``, of exactly its type (an ``int`` stays one). A tensor comes to the device of this rank's
        own ``value``, where that is a tensor.

    Raises:
        ValueError: there is no rank ``src``.

    Example:
        >>> broadcast({"best": 0.5})
        {'best': 0.5}
    """
    size = world_size()
    if not 0 <= src < size:
        raise ValueError(f"there is no rank {src!r}: ranks go from 0 to {size - 1}")
    if size == 1:
        return value
    import torch
    import torch.distributed as dist

    own = value if isinstance(value, torch.Tensor) else None
    header = [(own.shape, own.dtype) if own is not None else (None, value)]
    dist.broadcast_object_list(header, src=src)
    shape, content = header[0]
    if shape is None:
        return content  # type: ignore[return-value]  # the value of src, which has the type of value
    device = _default_device() if own is None else _device_for(own)
    if own is not None and rank() == src:
        tensor = own.detach().to(device, copy=True).contiguous()
    else:
        tensor = torch.empty(shape, dtype=content, device=device)  # type: ignore[arg-type]  # a dtype here
    dist.broadcast(tensor, src=src)
    return tensor if own is None else tensor.to(own.device)  # type: ignore[return-value]  # the type of value


def barrier() -> None:
    """Wait until every rank gets here.

    Example:
        >>> barrier()
    """
    if world_size() > 1:
        import torch.distributed as dist

        device = _default_device()
        dist.barrier(device_ids=None if device.type == "cpu" else [device.index])


def rank_zero_only(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
    """Decorate a function to run on rank 0 only; it returns ``None`` on all others, at once.

    Example:
        >>> @rank_zero_only
        ... def announce():
        ...     return "rank 0 was here"
        >>> announce()
        'rank 0 was here'
    """

    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        return function(*args, **kwargs) if rank() == 0 else None

    return guarded


def agree_any(flag: bool) -> bool:
    """Return whether the flag is set on any rank: one answer for all of them.

    It is how a rank that wants to stop, or to save, takes the others along.

    Example:
        >>> agree_any(False)
        False
    """
    return bool(all_reduce(int(flag), "MAX"))


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _all_gather_objects(value: Any) -> list[Any]:
    size = world_size()
    if size == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * size
    dist.all_gather_object(values, value)
    return values


def _default_device() -> torch.device:
    """The device for what has none of its own: the CPU, unless the backend only takes an accelerator's tensors."""
    import torch
    import torch.distributed as dist

    if "cpu" in dist.get_backend_config():
        return torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device(accelerator.type, torch.accelerator.current_device_index())


def _device_for(tensor: torch.Tensor) -> torch.device:
    """The tensor's own device, where the backend takes tensors from there."""
    import torch.distributed as dist

    return tensor.device if tensor.device.type in dist.get_backend_config() else _default_device()
