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
        batch: A tensor, a string, or nested mappings, lists, tuples and named tuples of these.
        device: The device; ``None`` leaves the tensors where they are.
        non_blocking: Copy from pinned memory asynchronously.

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
            f"cannot move a {type(leaf).__name__} to a device: a batch must consist of tensors, strings, mappings, lists and "
            "tuples; convert other types in prepare_batch(batch, device, non_blocking)"
        )

    return map_leaves(batch, move)


def map_leaves(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to each leaf of nested mappings, tuples and lists.

    Example:
        >>> map_leaves({"a": (1, [2])}, lambda leaf: leaf + 1)
        {'a': (2, [3])}
    """
    # Tensors are the common case, and isinstance with Mapping is slower.
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return type(value)({key: map_leaves(item, function) for key, item in value.items()})  # type: ignore[call-arg]  # mapping types accept a dict
    if isinstance(value, (list, tuple)):
        mapped = (map_leaves(item, function) for item in value)
        return type(value)(*mapped) if hasattr(value, "_fields") else type(value)(mapped)
    return function(value)


def prepare_pair(batch: Any, device: Device = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """Return the pair ``(inputs, targets)`` with all tensors on the device."""
    x, y = batch
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)
