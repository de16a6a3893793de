"""Counts for classification metrics: pure tensor functions without synchronization."""

from __future__ import annotations

from typing import NamedTuple

import torch

from glowplug_metrics.classification import count_not_binary, not_binary_error
from glowplug_metrics.summation import summand, wide_dtype

__all__ = [
    "ACTUAL",
    "PREDICTED",
    "RIGHT",
    "Labels",
    "add_confusions",
    "binary_counts",
    "class_counts",
    "confusions",
    "histogram",
    "label_counts",
    "labels_of",
    "matrix_counts",
    "num_not_binary",
    "summed_ratios",
]

RIGHT, PREDICTED, ACTUAL = range(3)
"""The rows of counts: how often each class was predicted correctly, how often predicted, and how often it is there."""


class Labels(NamedTuple):
    """Predicted and true classes of all elements of a batch, flat.

    Example:
        >>> labels = labels_of(torch.tensor([0, 1]), torch.tensor([0, 255]), classes=2)
        >>> labels.target.tolist(), labels.weight.tolist(), labels.num_invalid
        ([0, 0], [1, 0], 1)
    """

    predicted: torch.Tensor
    target: torch.Tensor
    """0 where the target is no class."""
    weight: torch.Tensor | None
    """1, and 0 where the target is no class; ``None``: all are known to be."""
    num_invalid: torch.Tensor | int
    """How many targets are no class: a number on the CPU, a tensor elsewhere."""


def labels_of(predicted: torch.Tensor, y: torch.Tensor, classes: int) -> Labels:
    """Return predicted and true classes.

    Args:
        predicted: Classes of shape (N, ...).
        y: Of the same shape; whatever is no class from 0 to ``classes`` - 1 gets the weight 0.
        classes: How many there are.

    Example:
        >>> labels_of(torch.tensor([[0, 1]]), torch.tensor([[0, 0]]), classes=2).predicted
        tensor([0, 1])
    """
    given = y
    if y.ndim > 1:
        predicted, given = predicted.flatten(), y.flatten()
    target = given.long()
    if target is given and target.is_cpu and _are_classes(target, classes):
        return Labels(predicted, target, None, 0)
    valid = (target >= 0) & (target < classes) & (target == given)
    weight = valid.long()
    return Labels(predicted, target * weight, weight, summand((~valid).count_nonzero()))


def histogram(values: torch.Tensor, weight: torch.Tensor | None, size: int) -> torch.Tensor:
    """Count how often each number from 0 to ``size`` - 1 is there.

    Args:
        values: Such numbers, flat.
        weight: How often each of them counts; ``None``: once, and they are on the CPU.
        size: How many counts.

    Returns:
        Counts of shape (size,), int64.

    Example:
        >>> histogram(torch.tensor([0, 2, 2]), None, size=4)
        tensor([1, 0, 2, 0])
    """
    if weight is None:  # fastest on the CPU
        return torch.bincount(values, minlength=size)
    return weight.new_zeros(size).index_add_(0, values, weight)


def confusions(labels: Labels, classes: int) -> torch.Tensor:
    """Count how often each class was predicted as each.

    Returns:
        Counts of shape (C, C), int64: actual classes in rows, predicted ones in columns.

    Example:
        >>> confusions(labels_of(torch.tensor([0, 1]), torch.tensor([0, 0]), classes=2), classes=2)
        tensor([[1, 1],
                [0, 0]])
    """
    cells = torch.add(labels.predicted, labels.target, alpha=classes)
    return histogram(cells, labels.weight, classes * classes).view(classes, classes)


def add_confusions(matrix: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Add :func:`confusions` to a matrix with many classes, most of whose cells a batch leaves alone.

    Args:
        matrix: Counts of shape (C, C), int64: actual classes in rows, predicted ones in columns. It is changed.
        labels: What to add.

    Returns:
        The matrix.

    Example:
        >>> labels = labels_of(torch.tensor([0, 1]), torch.tensor([0, 0]), classes=2)
        >>> add_confusions(torch.zeros(2, 2, dtype=torch.int64), labels)
        tensor([[1, 1],
                [0, 0]])
    """
    cells = torch.add(labels.predicted, labels.target, alpha=len(matrix))
    weight = torch.ones_like(cells) if labels.weight is None else labels.weight
    matrix.view(-1).index_add_(0, cells, weight)
    return matrix


def class_counts(labels: Labels, classes: int) -> torch.Tensor:
    """Count for each class how often it was predicted correctly, how often predicted, and how often present.

    Returns:
        Counts of shape (3, C), int64.

    Example:
        >>> class_counts(labels_of(torch.tensor([0, 1]), torch.tensor([0, 0]), classes=2), classes=2)
        tensor([[1, 0],
                [1, 1],
                [2, 0]])
    """
    hit = (labels.predicted == labels.target).long()
    right = hit if labels.weight is None else hit * labels.weight
    rows = ((labels.target, right), (labels.predicted, labels.weight), (labels.target, labels.weight))
    return torch.stack([histogram(values, weight, classes) for values, weight in rows])


def matrix_counts(matrix: torch.Tensor) -> torch.Tensor:
    """Return the :func:`class_counts` of a confusion matrix.

    Example:
        >>> matrix_counts(torch.tensor([[1, 1], [0, 0]]))
        tensor([[1, 0],
                [1, 1],
                [2, 0]])
    """
    return torch.stack((matrix.diagonal(), matrix.sum(0), matrix.sum(1)))


def binary_counts(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Count how often class 1 was predicted correctly, how often predicted, and how often present.

    Args:
        y_pred: Values 0 and 1.
        y: As many.

    Returns:
        Counts of shape (3, 1), int64.

    Example:
        >>> binary_counts(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0])).flatten()
        tensor([1, 2, 1])
    """
    predicted, actual = y_pred.bool().flatten(), y.bool().flatten()
    counted = [values.count_nonzero() for values in (predicted & actual, predicted, actual)]
    return torch.stack(counted).unsqueeze(1)


def label_counts(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Count for each label how often it was predicted correctly, how often predicted, and how often present.

    Args:
        y_pred: Values 0 and 1 of shape (N, C, ...).
        y: The same.

    Returns:
        Counts of shape (3, C), int64.

    Example:
        >>> label_counts(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]]))
        tensor([[1, 1],
                [2, 1],
                [1, 1]])
    """
    predicted, actual = y_pred.bool(), y.bool()
    rows = torch.stack((predicted & actual, predicted, actual))
    return rows.sum(dim=(1, *range(3, rows.ndim)))


def summed_ratios(y_pred: torch.Tensor, y: torch.Tensor, row: int) -> torch.Tensor:
    """Sum over the examples of multilabel data the share of right labels among the predicted, or the actual, ones.

    Args:
        y_pred: Values 0 and 1 of shape (N, C, ...).
        y: The same.
        row: ``PREDICTED`` or ``ACTUAL``. An example without any such label adds 0.

    Returns:
        The sum, in the wide float type, without dimensions.

    Example:
        >>> summed_ratios(torch.tensor([[1, 1], [0, 1]]), torch.tensor([[1, 0], [0, 1]]), PREDICTED)
        tensor(1.5000, dtype=torch.float64)
    """
    predicted, actual = y_pred.bool(), y.bool()
    total = (predicted if row == PREDICTED else actual).sum(1).clamp(min=1)
    return ((predicted & actual).sum(1).to(wide_dtype(y.device)) / total).sum()


def num_not_binary(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor | int:
    """Return how many values are neither 0 nor 1, a tensor on an accelerator; on the CPU there are none.

    Raises:
        ValueError: If there are, on the CPU. Elsewhere, looking would wait.

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
    """Return whether all targets of a CPU tensor are classes."""
    if not target.numel():
        return True
    low, high = torch.aminmax(target)
    return low.item() >= 0 and high.item() < classes
