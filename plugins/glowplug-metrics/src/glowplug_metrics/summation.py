"""High-precision sums that do not wait for an accelerator."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["add_in_place", "follow", "summand", "wide_dtype"]


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return the float type for sums: float64, or float32 on MPS.

    Example:
        >>> wide_dtype(torch.device("cpu"))
        torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64


def summand(value: torch.Tensor) -> Any:
    """Return a CPU scalar as a Python number, and an accelerator scalar as a tensor.

    A tensor of floats is converted to :func:`wide_dtype`. Adding Python numbers is fastest, but converting an accelerator tensor
    to a number would wait for the accelerator.

    Example:
        >>> summand(torch.tensor(0.5))
        0.5
    """
    if value.is_cpu:
        return value.item()
    value = value.detach()
    return value.to(wide_dtype(value.device)) if value.is_floating_point() else value


def add_in_place(total: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
    """Add a tensor to a total in place, after moving the total to the device of the tensor.

    Example:
        >>> add_in_place(torch.tensor([1, 2]), torch.tensor([1, 1]))
        tensor([2, 3])
    """
    if total.device != addend.device:
        total = total.to(addend.device)
    return total.add_(addend)


def follow(total: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Move a total to the device of a value; after a move, the total has the :func:`wide_dtype` of the new device.

    Example:
        >>> follow(torch.zeros((), dtype=torch.float64), torch.ones((), device="meta")).device
        device(type='meta')
    """
    device = value.device
    return total if total.device == device else total.to(device, wide_dtype(device))
