"""Pure tensor functions that count predictions and targets without waiting for an accelerator."""

from __future__ import annotations

from typing import NamedTuple

import torch

from glowplug_metrics.classification import count_not_binary, not_binary_error
from glowplug_metrics.summation import summand, wide_dtype

__all__ = [
    "ACTUAL",
    "CORRECT",
    "PREDICTED",
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

CORRECT, PREDICTED, ACTUAL = range(3)
"""Row indices of class counts: correct predictions, all predictions, targets."""


class Labels(NamedTuple):
    """Flattened predicted and actual classes of a batch.

    Example:
        >>> labels = labels_of(torch.tensor([0, 1]), torch.tensor([0, 255]), classes=2)
        >>> labels.target.tolist(), labels.weight.tolist(), labels.num_invalid
        ([0, 0], [1, 0], 1)
    """

    predicted: torch.Tensor
    target: torch.Tensor
    """Target classes; 0 for invalid targets."""
    weight: torch.Tensor | None
    """1 for valid targets and 0 for invalid ones; ``None`` if all are valid."""
    num_invalid: torch.Tensor | int
    """Number of invalid targets: an integer on the CPU, otherwise a tensor."""


def labels_of(predicted: torch.Tensor, y: torch.Tensor, classes: int) -> Labels:
    """Flatten predicted and actual classes and mark invalid targets.

    Args:
        predicted: Classes of shape (N, ...).
        y: Targets of the same shape as ``predicted``. Targets outside the range 0 to ``classes`` - 1 get the weight 0.
        classes: Number of classes.

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
    """Count the occurrences of each number from 0 to ``size`` - 1.

    Args:
        values: One-dimensional tensor of integers from 0 to ``size`` - 1.
        weight: Weight of each value. ``None`` gives each value the weight 1 and can be used only for CPU tensors.
        size: Number of counts.

    Returns:
        An int64 tensor of counts, of shape (size,).

    Example:
        >>> histogram(torch.tensor([0, 2, 2]), None, size=4)
        tensor([1, 0, 2, 0])
    """
    if weight is None:
        # On the CPU, bincount is the fastest function.
        return torch.bincount(values, minlength=size)
    return weight.new_zeros(size).index_add_(0, values, weight)


def confusions(labels: Labels, classes: int) -> torch.Tensor:
    """Return the confusion matrix of a batch.

    Returns:
        An int64 tensor of shape (C, C), with actual classes in rows and predicted classes in columns.

    Example:
        >>> confusions(labels_of(torch.tensor([0, 1]), torch.tensor([0, 0]), classes=2), classes=2)
        tensor([[1, 1],
                [0, 0]])
    """
    cells = torch.add(labels.predicted, labels.target, alpha=classes)
    return histogram(cells, labels.weight, classes * classes).view(classes, classes)


def add_confusions(matrix: torch.Tensor, labels: Labels) -> torch.Tensor:
    """Add a batch to a confusion matrix in place, writing only the cells that change.

    Args:
        matrix: An int64 tensor of shape (C, C), with actual classes in rows and predicted classes in columns.
        labels: The batch to add.

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
    """For each class, count the correct predictions, all predictions and the targets.

    Returns:
        An int64 tensor of shape (3, C), with one row for each of the three counts.

    Example:
        >>> class_counts(labels_of(torch.tensor([0, 1]), torch.tensor([0, 0]), classes=2), classes=2)
        tensor([[1, 0],
                [1, 1],
                [2, 0]])
    """
    matching = (labels.predicted == labels.target).long()
    correct = matching if labels.weight is None else matching * labels.weight
    rows = ((labels.target, correct), (labels.predicted, labels.weight), (labels.target, labels.weight))
    return torch.stack([histogram(values, weight, classes) for values, weight in rows])


def matrix_counts(matrix: torch.Tensor) -> torch.Tensor:
    """Compute the result of :func:`class_counts` from a confusion matrix.

    Example:
        >>> matrix_counts(torch.tensor([[1, 1], [0, 0]]))
        tensor([[1, 0],
                [1, 1],
                [2, 0]])
    """
    return torch.stack((matrix.diagonal(), matrix.sum(0), matrix.sum(1)))


def binary_counts(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """For class 1, count the correct predictions, all predictions and the targets.

    Args:
        y_pred: Predictions, each of which is 0 or 1.
        y: Targets, each of which is 0 or 1. The number of elements must be the same as in ``y_pred``.

    Returns:
        An int64 tensor of shape (3, 1), with one row for each of the three counts.

    Example:
        >>> binary_counts(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0])).flatten()
        tensor([1, 2, 1])
    """
    predicted, actual = y_pred.bool().flatten(), y.bool().flatten()
    counted = [values.count_nonzero() for values in (predicted & actual, predicted, actual)]
    return torch.stack(counted).unsqueeze(1)


def label_counts(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """For each label, count the correct predictions, all predictions and the targets.

    Args:
        y_pred: Predictions of shape (N, C, ...), each of which is 0 or 1.
        y: Targets of the same shape as ``y_pred``, each of which is 0 or 1.

    Returns:
        An int64 tensor of shape (3, C), with one row for each of the three counts.

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
    """Sum the fractions of correct labels over the examples of multilabel data.

    Args:
        y_pred: Predictions of shape (N, C, ...), each of which is 0 or 1.
        y: Targets of the same shape as ``y_pred``, each of which is 0 or 1.
        row: Denominator of the fraction. ``PREDICTED`` is the number of predicted labels, and ``ACTUAL`` is the number of actual
            labels. An example with the denominator 0 adds 0 to the sum.

    Returns:
        The sum as a scalar tensor of the dtype that :func:`wide_dtype` returns.

    Example:
        >>> summed_ratios(torch.tensor([[1, 1], [0, 1]]), torch.tensor([[1, 0], [0, 1]]), PREDICTED)
        tensor(1.5000, dtype=torch.float64)
    """
    predicted, actual = y_pred.bool(), y.bool()
    total = (predicted if row == PREDICTED else actual).sum(1).clamp(min=1)
    return ((predicted & actual).sum(1).to(wide_dtype(y.device)) / total).sum()


def num_not_binary(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor | int:
    """Count the values of ``y_pred`` and ``y`` that are neither 0 nor 1.

    Returns:
        The count as a tensor on the accelerator, or the integer 0 for CPU tensors.

    Raises:
        ValueError: If a CPU tensor contains a value other than 0 and 1. The values of an accelerator tensor are only counted,
            because raising an error would require waiting for the accelerator.

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
    """Return whether all targets of a CPU tensor are valid classes."""
    if not target.numel():
        return True
    low, high = torch.aminmax(target)
    return low.item() >= 0 and high.item() < classes
