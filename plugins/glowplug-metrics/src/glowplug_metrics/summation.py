"""Sums with high precision and no accelerator synchronization."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["added_up", "follow", "summand", "wide_dtype"]


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return the float type to sum in: 64 bits, or 32 on MPS, which has no more.

    Example:
        >>> wide_dtype(torch.device("cpu"))
        torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64


def summand(value: torch.Tensor) -> Any:
    """Return a tensor without dimensions as something to add up: a Python number, or a wide tensor on an accelerator.

    On the CPU its value is there, and Python's numbers are the fastest to add; an accelerator would have to be waited for.

    Example:
        >>> summand(torch.tensor(0.5))
        0.5
    """
    if value.is_cpu:
        return value.item()
    value = value.detach()
    return value.to(wide_dtype(value.device)) if value.is_floating_point() else value


def added_up(total: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Add to a total, in place, on the device of what is added.

    Example:
        >>> added_up(torch.tensor([1, 2]), torch.tensor([1, 1]))
        tensor([2, 3])
    """
    if total.device != added.device:
        total = total.to(added.device)
    return total.add_(added)


def follow(total: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the total on the device of a value, in the wide type there.

    Example:
        >>> follow(torch.zeros((), dtype=torch.float64), torch.ones((), device="meta")).device
        device(type='meta')
    """
    device = value.device
    return total if total.device == device else total.to(device, wide_dtype(device))
