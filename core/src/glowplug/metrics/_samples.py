"""Outputs that consist of lists of samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Number
from typing import Any

import torch


def is_list_batch(output: object) -> bool:
    """Return whether an output consists of lists of tensors or numbers."""
    # The concrete classes come first: isinstance with an abstract class is slower.
    if not isinstance(output, (tuple, list, Sequence)):
        return False
    for part in output:
        # The first part is nearly always a tensor, so the loop usually ends here.
        if (
            isinstance(part, torch.Tensor)
            or not isinstance(part, Sequence)
            or not all(isinstance(x, (torch.Tensor, Number)) for x in part)
            or _has_batches(part)
        ):
            return False
    return True


def _has_batches(part: Sequence[Any]) -> bool:
    """Return whether a part of an output is a tuple of batches, such as one tensor for each head of a model."""
    return isinstance(part, tuple) and any(isinstance(x, torch.Tensor) and x.ndim for x in part)


def samples(output: Sequence[Sequence[Any]]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield each sample as a pair of batches of size 1: the prediction and the target."""
    lengths = [len(part) for part in output]
    if len(lengths) != 2 or lengths[0] != lengths[1]:  # noqa: PLR2004 - predictions and targets
        raise ValueError(
            "an output that consists of lists must contain exactly two lists of equal length (predictions and targets), got "
            f"{len(lengths)} lists of lengths {lengths}; to pass the output to update() unchanged, set skip_unrolling=True"
        )
    for pair in zip(*output, strict=True):
        yield tuple(x.unsqueeze(0) if isinstance(x, torch.Tensor) else torch.tensor([x]) for x in pair)
