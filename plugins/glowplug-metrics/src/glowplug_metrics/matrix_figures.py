"""Pure functions that compute the scores of each class from a confusion matrix.

The matrix has the shape (C, C) and any numeric type. The rows of the matrix are the actual classes, and the columns are the
predicted classes. The results are float64 tensors of shape (C,), except that :func:`accuracy` returns a scalar tensor. A score
with a zero denominator is 0.
"""

from __future__ import annotations

import torch

__all__ = ["accuracy", "dice", "iou", "one_against_rest", "precision", "ratio", "recall"]


def ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Return ``numerator / denominator``, or 0 where both are 0.

    Example:
        >>> ratio(torch.tensor([1, 0]), torch.tensor([4, 0]))
        tensor([0.2500, 0.0000])
    """
    return numerator / torch.where(denominator == 0, 1, denominator)


def precision(matrix: torch.Tensor) -> torch.Tensor:
    """Return the fraction of each class's predictions that are correct.

    Example:
        >>> precision(torch.tensor([[3, 1], [1, 3]]))
        tensor([0.7500, 0.7500], dtype=torch.float64)
    """
    matrix = matrix.double()
    return ratio(matrix.diagonal(), matrix.sum(0))


def recall(matrix: torch.Tensor) -> torch.Tensor:
    """Return the fraction of each class's examples that are predicted correctly.

    Example:
        >>> recall(torch.tensor([[4, 0], [1, 3]]))
        tensor([1.0000, 0.7500], dtype=torch.float64)
    """
    matrix = matrix.double()
    return ratio(matrix.diagonal(), matrix.sum(1))


def iou(matrix: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of each class.

    Example:
        >>> iou(torch.tensor([[3, 1], [1, 3]]))
        tensor([0.6000, 0.6000], dtype=torch.float64)
    """
    matrix = matrix.double()
    intersection = matrix.diagonal()
    return ratio(intersection, matrix.sum(0) + matrix.sum(1) - intersection)


def dice(matrix: torch.Tensor) -> torch.Tensor:
    """Return the Dice coefficient of each class, which is equal to the F1 score of the class.

    Example:
        >>> dice(torch.tensor([[3, 1], [1, 3]]))
        tensor([0.7500, 0.7500], dtype=torch.float64)
    """
    matrix = matrix.double()
    return ratio(2 * matrix.diagonal(), matrix.sum(0) + matrix.sum(1))


def one_against_rest(matrix: torch.Tensor) -> torch.Tensor:
    """Return the accuracy of each class when all other classes are merged into one.

    Example:
        >>> one_against_rest(torch.tensor([[2, 0, 0], [0, 1, 1], [0, 0, 0]]))
        tensor([1.0000, 0.7500, 0.7500], dtype=torch.float64)
    """
    matrix = matrix.double()
    total = matrix.sum()
    return ratio(total - matrix.sum(0) - matrix.sum(1) + 2 * matrix.diagonal(), total)


def accuracy(matrix: torch.Tensor) -> torch.Tensor:
    """Return the fraction of correct predictions as a scalar tensor.

    Example:
        >>> accuracy(torch.tensor([[3, 1], [1, 3]]))
        tensor(0.7500, dtype=torch.float64)
    """
    matrix = matrix.double()
    return ratio(matrix.trace(), matrix.sum())
