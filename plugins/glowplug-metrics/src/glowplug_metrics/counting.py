"""The counts of one batch that the metrics of classification are made of, as pure functions of its tensors.

None of them waits for an accelerator. They call each other through :func:`shared`, so that within one batch each is
worked out once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from glowplug_metrics.accumulator import summand, wide_dtype
from glowplug_metrics.classification import count_not_binary, not_binary_error
from glowplug_metrics.shared_counts import shared

__all__ = [
    "ACTUAL",
    "PREDICTED",
    "RIGHT",
    "Labels",
    "add_confusions",
    "class_counts",
    "labels",
    "num_not_binary",
    "predicted_classes",
    "summed_ratios",
]

RIGHT, PREDICTED, ACTUAL = range(3)
"""The rows of :func:`class_counts`."""


class Labels(NamedTuple):
    """Predicted and true classes of all elements of a batch, flat.

    Example:
        >>> batch = labels(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 255]))
        >>> batch.target.tolist(), batch.weight.tolist(), batch.num_invalid
        ([0, 0], [1, 0], 1)
    """

    predicted: torch.Tensor
    target: torch.Tensor
    """0 where the target is no class."""
    weight: torch.Tensor
    """1, and 0 where the target is no class."""
    num_invalid: torch.Tensor | int
    """How many targets are no class: a number on the CPU, a tensor elsewhere."""


def predicted_classes(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - shared results are of pairs
    """Return the class with the highest score.

    Example:
        >>> predicted_classes(torch.tensor([[0.1, 0.9]]), torch.tensor([0]))
        tensor([1])
    """
    return y_pred.argmax(1)


def labels(y_pred: torch.Tensor, y: torch.Tensor) -> Labels:
    """Return predicted and true classes.

    Args:
        y_pred: scores of shape (N, C, ...).
        y: classes of shape (N, ...). Whatever is no class from 0 to C - 1 gets the weight 0.

    Example:
        >>> labels(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0])).predicted
        tensor([0, 1])
    """
    predicted, given = shared(predicted_classes, y_pred, y).flatten(), y.flatten()
    target = given.long()
    if target is given and target.is_cpu and _are_classes(target, y_pred.shape[1]):
        return Labels(predicted, target, torch.ones_like(target), 0)
    valid = (target >= 0) & (target < y_pred.shape[1]) & (target == given)
    weight = valid.long()
    return Labels(predicted, target * weight, weight, summand((~valid).count_nonzero()))


def class_counts(y_pred: torch.Tensor, y: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor | int]:
    """Count for each class how often it was predicted rightly, how often predicted, and how often there.

    Args:
        y_pred: scores (N, C, ...) for multiclass, else values 0 and 1: (N, C, ...) for multilabel, any shape for binary.
        y: targets, as many.
        kind: ``"binary"``, ``"multiclass"`` or ``"multilabel"``.

    Returns:
        Counts of shape (3, C), int64, with the rows ``RIGHT``, ``PREDICTED`` and ``ACTUAL`` (C = 1 for binary: those of
        class 1); and how many targets or values are invalid.

    Raises:
        ValueError: binary values on the CPU other than 0 and 1.

    Example:
        >>> class_counts(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0]), "binary")
        (tensor([[1],
                [2],
                [1]]), 0)
    """
    if kind == "multiclass":
        batch = shared(labels, y_pred, y)
        counts = batch.target.new_zeros((3, y_pred.shape[1]))
        counts[RIGHT].index_add_(0, batch.target, batch.weight * (batch.predicted == batch.target))
        counts[PREDICTED].index_add_(0, batch.predicted, batch.weight)
        counts[ACTUAL].index_add_(0, batch.target, batch.weight)
        return counts, batch.num_invalid
    num_invalid = shared(num_not_binary, y_pred, y)
    predicted, actual = y_pred.bool(), y.bool()
    if kind == "binary":
        right = predicted.reshape(actual.shape) & actual
        counted = [values.count_nonzero() for values in (right, predicted, actual)]
        return torch.stack(counted).unsqueeze(1), num_invalid
    rows = torch.stack((predicted & actual, predicted, actual))
    return rows.sum(dim=(1, *range(3, rows.ndim))), num_invalid


def summed_ratios(y_pred: torch.Tensor, y: torch.Tensor, row: int) -> tuple[torch.Tensor, torch.Tensor | int]:
    """Sum over the examples of multilabel data the share of right labels among the predicted, or the actual, ones.

    Args:
        y_pred: values 0 and 1 of shape (N, C, ...).
        y: the same.
        row: ``PREDICTED`` or ``ACTUAL``. An example without any such label adds 0.

    Returns:
        The sum, a wide tensor without dimensions; and how many values are invalid.

    Example:
        >>> summed_ratios(torch.tensor([[1, 1], [0, 1]]), torch.tensor([[1, 0], [0, 1]]), PREDICTED)
        (tensor(1.5000, dtype=torch.float64), 0)
    """
    num_invalid = shared(num_not_binary, y_pred, y)
    predicted, actual = y_pred.bool(), y.bool()
    wide = wide_dtype(y.device)
    total = (predicted if row == PREDICTED else actual).sum(1).clamp(min=1)
    return ((predicted & actual).sum(1).to(wide) / total).sum(), num_invalid


def add_confusions(matrix: torch.Tensor, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Add to a confusion matrix how often each class was predicted as each; targets that are no class are ignored (M-087).

    Args:
        matrix: counts of shape (C, C), int64: actual classes in rows, predicted ones in columns. It is changed.
        y_pred: scores of shape (N, C, ...).
        y: classes of shape (N, ...).

    Returns:
        The matrix.

    Example:
        >>> add_confusions(
        ...     torch.zeros(2, 2, dtype=torch.int64),
        ...     torch.tensor([[0.9, 0.1], [0.2, 0.8]]),
        ...     torch.tensor([0, 0]),
        ... )
        tensor([[1, 1],
                [0, 0]])
    """
    batch = shared(labels, y_pred, y)
    cells = batch.target * len(matrix) + batch.predicted
    matrix.view(-1).index_add_(0, cells, batch.weight)
    return matrix


def num_not_binary(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor | int:
    """Return how many values are neither 0 nor 1, a tensor on an accelerator; on the CPU there are none.

    Raises:
        ValueError: there are, on the CPU. Elsewhere, looking would wait.

    Example:
        >>> num_not_binary(torch.tensor([0, 1]), torch.tensor([1, 1]))
        0
    """
    total: torch.Tensor | int = 0
    for name, values in (("y_pred", y_pred), ("y", y)):
        invalid = summand(count_not_binary(values))
        if isinstance(invalid, int) and invalid:
            raise not_binary_error(name, values)
        total = total + invalid
    return total


def _are_classes(target: torch.Tensor, classes: int) -> bool:
    """Whether all are, of a tensor that can be looked at."""
    if not target.numel():
        return True
    low, high = torch.aminmax(target)
    return low.item() >= 0 and high.item() < classes
