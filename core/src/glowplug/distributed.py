"""Thin layer over ``torch.distributed`` that also works with one process.

If there is no process group, or if the group has only one process, every function returns immediately, without a collective
operation. This module does not create a process group. Launch the script with ``torchrun``, and call
``torch.distributed.init_process_group`` in the script.

:meth:`SharedInterval.is_over` and the functions of this module are collectives: all ranks must call them in the same order. Only
:func:`rank`, :func:`world_size`, :func:`is_initialized` and :func:`rank_zero_only` are not collectives.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    import torch

__all__ = [
    "SharedInterval",
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
    """Return whether a process group exists.

    Example:
        >>> is_initialized()
        False
    """
    # This module is missing as long as torch has not been imported, and in builds of torch without process groups.
    groups = sys.modules.get("torch.distributed.distributed_c10d")
    return groups is not None and groups.is_initialized()


def rank() -> int:
    """Return the rank of this process, counted from 0.

    Example:
        >>> rank()
        0
    """
    if not is_initialized():
        return 0
    import torch.distributed as dist

    return dist.get_rank()


def world_size() -> int:
    """Return the number of processes.

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
    """Reduce a value over all ranks.

    Args:
        value: A tensor or a number. A tensor must have the same shape and dtype on all ranks; the call does not modify the
            tensor. A number must have the same type on all ranks; a ``bool`` counts as an ``int``.
        op: Elementwise reduction: ``"SUM"``, ``"PRODUCT"``, ``"MIN"`` or ``"MAX"``.

    Returns:
        For a tensor, the reduced tensor on the same device. For a number, the reduced number, with the same type. Numbers are
        reduced as 64-bit values.

    Raises:
        ValueError: If ``op`` is unknown.
        TypeError: If ``value`` is neither a tensor nor a number.

    Example:
        >>> all_reduce(3)
        3
    """
    if op not in REDUCE_OPS:
        raise ValueError(f"op must be one of {', '.join(REDUCE_OPS)}, got {op!r}")
    if not (_is_tensor(value) or isinstance(value, (int, float))):
        raise TypeError(
            f"all_reduce accepts a tensor or a number, got {value!r} of type {type(value).__name__}"
        )
    if isinstance(value, bool):
        value = int(value)
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
def all_gather(value: torch.Tensor) -> torch.Tensor: ...  # type: ignore[overload-overlap]  # tensors match this overload
@overload
def all_gather(value: _R) -> list[_R]: ...
def all_gather(value: Any) -> Any:
    """Gather the values of all ranks, in rank order.

    Args:
        value: A tensor, or an object that can be pickled. Tensors must have the same dtype and shape on all ranks; only
            the size of dimension 0 may differ.

    Returns:
        For tensors, the tensors of all ranks, concatenated along dimension 0. A scalar tensor is treated as a tensor of shape
        ``(1,)``. For other values, a list of the values of all ranks.

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
    """Send a value from one rank to all ranks, and return this value.

    Args:
        value: The value that rank ``src`` sends: a tensor, or an object that can be pickled. The other ranks may pass any
            value. If another rank passes a tensor, only the device of this tensor is used.
        src: The rank that sends its value.

    Returns:
        The value of rank ``src``. If both this value and the local ``value`` are tensors, the result is on the device of the
        local ``value``.

    Raises:
        ValueError: If the rank ``src`` does not exist.

    Example:
        >>> broadcast({"best": 0.5})
        {'best': 0.5}
    """
    size = world_size()
    if not 0 <= src < size:
        raise ValueError(f"src must be a rank from 0 to {size - 1}, got {src!r}")
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
    """Wait until all ranks have called this function.

    Example:
        >>> @rank_zero_only
        ... def download(): ...
        >>> download()
        >>> barrier()  # no rank reads the data before rank 0 has downloaded it
    """
    if world_size() > 1:
        import torch.distributed as dist

        device = _default_device()
        dist.barrier(device_ids=None if device.type == "cpu" else [device.index])


def rank_zero_only(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
    """Decorate a function so that it runs only on rank 0 and immediately returns ``None`` on other ranks.

    Example:
        >>> @rank_zero_only
        ... def report(loss):
        ...     print(f"loss {loss:.2f}")
        >>> report(0.25)
        loss 0.25
    """

    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        return function(*args, **kwargs) if rank() == 0 else None

    return guarded


def agree_any(flag: bool) -> bool:
    """Return ``True`` on all ranks if ``flag`` is true on at least one rank, otherwise ``False``.

    Use this function for decisions that all ranks must make together, such as stopping or saving.

    Args:
        flag: The wish of this rank.

    Example:
        >>> loss = float("nan")
        >>> if agree_any(loss != loss):
        ...     print("all ranks stop")
        all ranks stop
    """
    return bool(all_reduce(int(flag), "MAX"))


# An omitted call of SharedInterval.is_over may notice the end of an interval late by this much.
_IDLE_SECONDS = 0.001
_MAX_IDLE_CALLS = 64


class SharedInterval:
    """Interval of time that ends at the same call on all ranks.

    The clock of rank 0 decides for all ranks. The ranks do not exchange its decision at each call: rank 0 estimates how many
    calls fit into the rest of the interval, and the ranks skip half of them. If later calls take longer than earlier ones, the end
    is noticed late.

    Args:
        seconds: Length of the interval in seconds.
        began: Start of the interval on the clock :func:`time.monotonic`. By default, the interval starts at the first call
            of :meth:`is_over`.

    Attributes:
        idle_calls: Number of the next calls of :meth:`is_over` that may be omitted, so that fast calls cost little: at most 64
            calls, and as many as would take a millisecond at the present pace. With several ranks, it is 0.

    Example:
        >>> interval = SharedInterval(600)
        >>> interval.is_over()
        False
    """

    # The number of calls after the interval began, and the number of calls before the ranks compare their clocks again.
    _calls = _skip = 0
    # The time of the last call.
    _seen: float | None = None

    def __init__(self, seconds: float, began: float | None = None) -> None:
        self.seconds = seconds
        self.idle_calls = 0
        self._began = began

    def is_over(self, *, restart: bool = False) -> bool:
        """Return whether the interval is over; call this method on all ranks, at the same events.

        Args:
            restart: Whether the next interval starts now if this one is over. Defaults to ``False``.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = now
        else:
            self._calls += 1
        if self._skip:
            self._skip -= 1
            return False
        elapsed = now - self._began
        is_over = elapsed >= self.seconds
        if world_size() > 1:
            self.idle_calls = 0
            is_over, self._skip = broadcast((is_over, self._calls_to_skip(elapsed)))
        elif self._seen is not None and now > self._seen:
            calls_per_second = (self.idle_calls + 1) / (now - self._seen)
            idle_seconds = min(_IDLE_SECONDS, max(self.seconds - elapsed, 0) / 2)
            self.idle_calls = min(_MAX_IDLE_CALLS, int(idle_seconds * calls_per_second))
        self._seen = now
        if is_over and restart:
            self._began, self._calls = now, 0
        return is_over

    def reset(self) -> None:
        """Let the interval start at the next call of :meth:`is_over`."""
        self._began, self._calls, self._skip = None, 0, 0
        self._seen, self.idle_calls = None, 0

    def _calls_to_skip(self, elapsed: float) -> int:
        """Return half of the number of calls that fit into the rest of the interval."""
        rest = self.seconds - elapsed
        return int(rest * self._calls / elapsed / 2) if elapsed > 0 and rest > 0 else 0


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
    """Return the CPU if the backend accepts CPU tensors, otherwise the accelerator."""
    import torch
    import torch.distributed as dist

    if "cpu" in dist.get_backend_config():
        return torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device(accelerator.type, torch.accelerator.current_device_index())


def _device_for(tensor: torch.Tensor) -> torch.device:
    """Return the tensor's device if the backend supports this device, otherwise the default device."""
    import torch.distributed as dist

    return tensor.device if tensor.device.type in dist.get_backend_config() else _default_device()
