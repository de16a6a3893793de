"""Gather the states of torchmetrics metrics from all ranks."""

from __future__ import annotations

import functools
from typing import Any

import torch

from glowplug.distributed import all_gather

__all__ = ["gather"]


def gather(state: torch.Tensor, group: Any = None) -> list[torch.Tensor]:  # noqa: ARG001 - torchmetrics passes it
    """Return the states of all ranks, even if some ranks have no examples.

    Use this function as the ``dist_sync_fn`` of a torchmetrics metric. The default ``dist_sync_fn`` fails or hangs if the states
    of the ranks differ in dtype or number of dimensions, which can happen if a rank has no examples.

    Args:
        state: The state of this rank.
        group: Unused; the states of the default process group are gathered.

    Returns:
        One tensor per rank, in rank order. All tensors have the same dtype. If the state stores the examples themselves,
        a rank without examples contributes an empty tensor.

    Example:
        >>> gather(torch.tensor([1.0, 2.0]))
        [tensor([1., 2.])]
    """
    kinds = all_gather((state.dtype, state.shape))
    filled = [dtype for dtype, shape in kinds if shape.numel()]
    dtype = functools.reduce(torch.promote_types, filled or [kinds[0][0]])
    numbers = all_gather(state.to(dtype).flatten())
    parts = torch.split_with_sizes(numbers, [shape.numel() for _, shape in kinds])
    return [part.reshape(shape) for part, (_, shape) in zip(parts, kinds, strict=True)]
