"""Functions that detect the kind of classification and check binary values."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

__all__ = ["Task", "count_not_binary", "not_binary_error", "task_of"]

Task: TypeAlias = tuple[Literal["binary", "multiclass", "multilabel"], int]
"""Kind of classification, and number of classes (1 for binary)."""


def task_of(y_pred: torch.Tensor, y: torch.Tensor, is_multilabel: bool = False) -> Task:
    """Determine the kind of classification and the number of classes from the shapes of ``y_pred`` and ``y``.

    Args:
        y_pred: Predictions. Multiclass predictions are scores of shape (N, C, ...). Binary predictions have the same shape as
            ``y``, or the shape (N, 1, ...). Multilabel predictions have the shape (N, C, ...) with C > 1.
        y: Targets. Binary and multiclass targets have the shape (N, ...). Multilabel targets have the same shape as ``y_pred``.
        is_multilabel: Whether the data is multilabel. If ``False``, the data is binary when ``y_pred`` and ``y`` have the same
            shape.

    Raises:
        ValueError: If the shapes do not match.

    Example:
        >>> task_of(torch.zeros(8, 3), torch.zeros(8))
        ('multiclass', 3)
    """
    predicted, target = y_pred.shape, y.shape
    if is_multilabel:
        if predicted != target or len(target) < 2 or target[1] < 2:  # noqa: PLR2004 - two or more labels in dimension 1
            raise ValueError(
                f"multilabel predictions and targets must both have the shape (N, C, ...) with C > 1, got y_pred "
                f"{tuple(predicted)} and y {tuple(target)}"
            )
        return "multilabel", target[1]
    if predicted == target:
        return "binary", 1
    if len(predicted) == len(target) + 1 and predicted[:1] + predicted[2:] == target:
        return ("multiclass", predicted[1]) if predicted[1] > 1 else ("binary", 1)
    raise ValueError(
        f"y_pred of shape {tuple(predicted)} and y of shape {tuple(target)} do not match; use the shapes (N, C, ...) and "
        "(N, ...) for multiclass data, or equal shapes for binary data"
    )


def count_not_binary(values: torch.Tensor) -> torch.Tensor:
    """Return the number of values that are neither 0 nor 1, as a tensor on the device of the values.

    Example:
        >>> count_not_binary(torch.tensor([0.0, 0.7, 1.0]))
        tensor(1)
    """
    if values.dtype is torch.bool:
        return values.new_zeros((), dtype=torch.int64)
    # One call computes x - x * x, which is 0 only if x is 0 or 1, and NaN if x is NaN or infinite.
    return torch.addcmul(values, values, values, value=-1).count_nonzero()


def not_binary_error(name: str, values: torch.Tensor) -> ValueError:
    """Return an error that lists up to three of the values that are neither 0 nor 1.

    Example:
        >>> str(not_binary_error("y", torch.tensor([0, 5]))).partition(";")[0]
        'binary and multilabel values must be 0 or 1, but y contains [5]'
    """
    others = values[(values != 0) & (values != 1)]
    return ValueError(
        f"binary and multilabel values must be 0 or 1, but {name} contains {others.flatten()[:3].tolist()}; convert the values "
        "with output_transform, for example output_transform=lambda out: ((out[0] > 0.5).int(), out[1])"
    )
