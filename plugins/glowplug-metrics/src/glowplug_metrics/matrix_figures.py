"""Figures of a confusion matrix, for each class: pure functions of counts with actual classes in rows.

They take a matrix of any number type, of shape (C, C), and return float64 tensors of shape (C,). What would be divided by
zero, for a class that is not there, is 0.
"""

from __future__ import annotations

import torch

__all__ = ["accuracy", "dice", "iou", "one_against_rest", "precision", "ratio", "recall"]


def ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Return the quotient, and 0 where the denominator is 0 (as the numerator then is).

    Example:
        >>> ratio(torch.tensor([1, 0]), torch.tensor([4, 0]))
        tensor([0.2500, 0.0000])
    """
    return numerator / torch.where(denominator == 0, 1, denominator)


def precision(matrix: torch.Tensor) -> torch.Tensor:
    """Return which share of the predictions of each class is right.

    Example:
        >>> precision(torch.tensor([[3, 1], [1, 3]]))
        tensor([0.7500, 0.7500], dtype=torch.float64)
    """
    matrix = matrix.double()
    return ratio(matrix.diagonal(), matrix.sum(0))


def recall(matrix: torch.Tensor) -> torch.Tensor:
    """Return which share of the examples of each class is found.

    Example:
        >>> recall(torch.tensor([[4, 0], [1, 3]]))
        tensor([1.0000, 0.7500], dtype=torch.float64)
    """
    matrix = matrix.double()
    return ratio(matrix.diagonal(), matrix.sum(1))


def iou(matrix: torch.Tensor) -> torch.Tensor:
    """Return the intersection over the union of predicted and actual ones of each class.

    Example:
        >>> iou(torch.tensor([[3, 1], [1, 3]]))
        tensor([0.6000, 0.6000], dtype=torch.float64)
    """
    matrix = matrix.double()
    both = matrix.diagonal()
    return ratio(both, matrix.sum(0) + matrix.sum(1) - both)


def dice(matrix: torch.Tensor) -> torch.Tensor:
    """Return twice the intersection over the sum of predicted and actual ones of each class, which is its F1 score too.

    Example:
        >>> dice(torch.tensor([[3, 1], [1, 3]]))
        tensor([0.7500, 0.7500], dtype=torch.float64)
    """
    matrix = matrix.double()
    return ratio(2 * matrix.diagonal(), matrix.sum(0) + matrix.sum(1))


def one_against_rest(matrix: torch.Tensor) -> torch.Tensor:
    """Return for each class which share of all examples is rightly told to be of it, or not of it.

    Example:
        >>> one_against_rest(torch.tensor([[2, 0, 0], [0, 1, 1], [0, 0, 0]]))
        tensor([1.0000, 0.7500, 0.7500], dtype=torch.float64)
    """
    matrix = matrix.double()
    total = matrix.sum()
    return ratio(total - matrix.sum(0) - matrix.sum(1) + 2 * matrix.diagonal(), total)


def accuracy(matrix: torch.Tensor) -> torch.Tensor:
    """Return which share of all examples is right, without dimensions.

    Example:
        >>> accuracy(torch.tensor([[3, 1], [1, 3]]))
        tensor(0.7500, dtype=torch.float64)
    """
    matrix = matrix.double()
    return ratio(matrix.trace(), matrix.sum())
