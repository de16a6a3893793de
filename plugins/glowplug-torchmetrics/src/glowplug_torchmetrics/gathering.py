"""Gathering of the states of torchmetrics metrics."""

from __future__ import annotations

import functools
from typing import Any

import torch

from glowplug.distributed import all_gather

__all__ = ["gather"]


def gather(state: torch.Tensor, group: Any = None) -> list[torch.Tensor]:  # noqa: ARG001 - torchmetrics gives it
    """Return the state of each rank; ranks may have no examples.

    It is a ``dist_sync_fn`` of torchmetrics, whose own fails, or waits for ever, where a rank without examples has an empty
    state of another type or another number of dimensions than the others.

    Args:
        state: The state of this rank.
        group: Unused; the default process group is gathered.

    Returns:
        A tensor for each rank, in the order of the ranks, all of one type; that of a rank without examples is empty.

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
