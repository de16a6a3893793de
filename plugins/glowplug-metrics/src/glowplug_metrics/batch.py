"""Predictions and targets of one batch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch

from glowplug_metrics import counting
from glowplug_metrics.classification import Task, task_of
from glowplug_metrics.counting import Labels

__all__ = ["FEW_CLASSES", "Batch", "split_output"]

FEW_CLASSES = 64
"""Largest number of classes for which metrics share a confusion matrix."""


def split_output(output: Any, user: str) -> tuple[Any, Any, Mapping[str, Any]]:
    """Split an output into ``y_pred``, ``y`` and the keyword arguments of a loss function.

    Args:
        output: ``(y_pred, y)`` or ``(y_pred, y, criterion_kwargs)``, where ``criterion_kwargs`` contains keyword arguments for
            the loss function of ``Loss``.
        user: Name of the class or function that needs the output; used in error messages.

    Raises:
        TypeError: If the output is neither a tuple nor a list.
        ValueError: If a tuple or list is neither ``(y_pred, y)`` nor ``(y_pred, y, criterion_kwargs)``.

    Example:
        >>> split_output(("predictions", "targets"), "Loss")
        ('predictions', 'targets', {})
    """
    is_sequence = isinstance(output, (tuple, list))
    if is_sequence and len(output) == 2:  # noqa: PLR2004 - y_pred and y
        return output[0], output[1], {}
    if is_sequence and len(output) == 3 and isinstance(output[2], Mapping):  # noqa: PLR2004 - with criterion_kwargs
        return output[0], output[1], output[2]
    parts = f" ({', '.join(type(part).__name__ for part in output)})" if is_sequence else ""
    message = (
        f"{user} needs the output (y_pred, y) or (y_pred, y, criterion_kwargs), got {type(output).__name__}{parts}; select these "
        "values with output_transform"
    )
    raise (ValueError if is_sequence else TypeError)(message)


class Batch:
    """Predictions and targets of one batch, with cached statistics.

    A batch is used for one update of one or several metrics. The tensors of a batch have no gradients and must not be modified.

    Args:
        y_pred: Predictions.
        y: Targets.

    Example:
        >>> batch = Batch(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        >>> batch.predicted
        tensor([1, 0])
        >>> batch.matrix
        tensor([[0, 0],
                [1, 1]])
    """

    def __init__(self, y_pred: torch.Tensor, y: torch.Tensor) -> None:
        self.y_pred = y_pred.detach() if y_pred.requires_grad else y_pred
        self.y = y.detach() if y.requires_grad else y
        # These two are not cached_property: each update needs them, and before Python 3.12 the lock in cached_property costs a
        # microsecond.
        self._task: Task | None = None
        self._predicted: torch.Tensor | None = None

    @property
    def task(self) -> Task:
        """Kind of data (binary or multiclass) and number of classes, as returned by :func:`task_of`."""
        if self._task is None:
            self._task = task_of(self.y_pred, self.y)
        return self._task

    @cached_property
    def multilabel_task(self) -> Task:
        """Kind of data and number of labels for multilabel data, as returned by :func:`task_of`."""
        return task_of(self.y_pred, self.y, is_multilabel=True)

    @property
    def predicted(self) -> torch.Tensor:
        """For multiclass data, the class with the highest score for each example, as a tensor of shape (N, ...)."""
        if self._predicted is None:
            self._predicted = self.y_pred.argmax(1)
        return self._predicted

    @cached_property
    def labels(self) -> Labels:
        """The predicted and actual classes of multiclass data."""
        return counting.labels_of(self.predicted, self.y, self.y_pred.shape[1])

    @cached_property
    def matrix(self) -> torch.Tensor:
        """The confusion matrix of multiclass data, a tensor of shape (C, C)."""
        classes = self.y_pred.shape[1]
        return counting.confusions(self.labels, classes)

    @cached_property
    def class_counts(self) -> torch.Tensor:
        """The counts of each class in multiclass data, a tensor of shape (3, C); see :func:`class_counts`."""
        return counting.class_counts(self.labels, self.y_pred.shape[1])

    @cached_property
    def binary_counts(self) -> torch.Tensor:
        """The counts of class 1 in binary data, a tensor of shape (3, 1); see :func:`binary_counts`."""
        return counting.binary_counts(self.y_pred, self.y)

    @cached_property
    def label_counts(self) -> torch.Tensor:
        """The counts of each label in multilabel data, a tensor of shape (3, C); see :func:`label_counts`."""
        return counting.label_counts(self.y_pred, self.y)

    @cached_property
    def num_not_binary(self) -> torch.Tensor | int:
        """Number of values that are neither 0 nor 1; see :func:`num_not_binary`."""
        return counting.num_not_binary(self.y_pred, self.y)
