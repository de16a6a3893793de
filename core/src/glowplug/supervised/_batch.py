"""Batches of inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

__all__ = ["Device", "convert_tensor", "map_leaves", "prepare_pair"]

Device: TypeAlias = str | torch.device | None


def convert_tensor(batch: Any, device: Device = None, non_blocking: bool = False) -> Any:
    """Return a batch with all its tensors on a device.

    Args:
        batch: A tensor, a string, or nested mappings, sequences and named tuples of these.
        device: The device; ``None`` leaves the tensors where they are.
        non_blocking: Do not wait for copies from pinned memory.

    Returns:
        The same structure; strings are unchanged.

    Raises:
        TypeError: If the batch contains anything else.

    Example:
        >>> convert_tensor({"x": torch.zeros(2), "names": ["a", "b"]}, device="meta")["x"].device
        device(type='meta')
    """

    def move(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return leaf if device is None else leaf.to(device=device, non_blocking=non_blocking)
        if isinstance(leaf, (str, bytes)):
            return leaf
        raise TypeError(
            f"cannot move a {type(leaf).__name__} to a device: a batch consists of tensors, strings, mappings and sequences; "
            "convert yours in prepare_batch(batch, device, non_blocking)"
        )

    return map_leaves(batch, move)


def map_leaves(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to each leaf of nested mappings, tuples and lists.

    Example:
        >>> map_leaves({"a": (1, [2])}, lambda leaf: leaf + 1)
        {'a': (2, [3])}
    """
    # The common case first: isinstance with Mapping is slower.
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return type(value)({key: map_leaves(item, function) for key, item in value.items()})  # type: ignore[call-arg]  # dict and its like take a dict
    if isinstance(value, (list, tuple)):
        mapped = (map_leaves(item, function) for item in value)
        return type(value)(*mapped) if hasattr(value, "_fields") else type(value)(mapped)
    return function(value)


def prepare_pair(batch: Any, device: Device = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """Return inputs and targets of a pair, on the device."""
    x, y = batch
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)
