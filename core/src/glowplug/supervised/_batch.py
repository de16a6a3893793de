"""Batches of inputs and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.utils import convert_tensor

if TYPE_CHECKING:
    from glowplug.utils import Device

__all__ = ["prepare_pair"]


def prepare_pair(batch: Any, device: Device = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """Return the pair ``(inputs, targets)`` with all tensors on the device."""
    x, y = batch
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)
