"""Batch: predictions and targets, and what metrics have worked out of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

import torch

from glowplug_metrics import counting
from glowplug_metrics.classification import Task, task_of
from glowplug_metrics.counting import Labels

__all__ = ["FEW_CLASSES", "Batch", "once"]

_R = TypeVar("_R")

FEW_CLASSES = 64
"""Up to so many, the counts of classes are best taken from a confusion matrix, which is then there for all to use."""


class once(Generic[_R]):  # noqa: N801 - used as a decorator
    """Decorate a method to be an attribute that is worked out when it is first asked for.

    What ``functools.cached_property`` is, without the lock that it takes before Python 3.12.

    Example:
        >>> class Circle:
        ...     @once
        ...     def area(self):
        ...         print("works")
        ...         return 3.14
        >>> circle = Circle()
        >>> circle.area + circle.area
        works
        6.28
    """

    def __init__(self, function: Callable[[Any], _R]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> once[_R]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> _R: ...
    def __get__(self, instance: object | None, owner: type) -> once[_R] | _R:
        if instance is None:
            return self
        value = instance.__dict__[self._function.__name__] = self._function(instance)
        return value


class Batch:
    """Predictions and targets of one batch, and what has been worked out of them, each thing once.

    It lives for one update of one or several metrics, in which nobody changes the tensors. What it returns is not to be
    changed either, and has no gradients.

    Args:
        y_pred: predictions.
        y: targets.

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

    @once
    def task(self) -> Task:
        """The kind of the data, binary or multiclass, and the number of classes; see :func:`task_of`."""
        return task_of(self.y_pred, self.y)

    @once
    def multilabel_task(self) -> Task:
        """The same of multilabel data."""
        return task_of(self.y_pred, self.y, is_multilabel=True)

    @once
    def predicted(self) -> torch.Tensor:
        """The classes with the highest scores, (N, ...), of multiclass data."""
        return self.y_pred.argmax(1)

    @once
    def labels(self) -> Labels:
        """The predicted and true classes of multiclass data."""
        return counting.labels_of(self.predicted, self.y, self.y_pred.shape[1])

    @once
    def matrix(self) -> torch.Tensor:
        """The confusion matrix of multiclass data, (C, C)."""
        classes = self.y_pred.shape[1]
        return counting.confusions(self.labels, classes)

    @once
    def class_counts(self) -> torch.Tensor:
        """The counts of the classes of multiclass data, (3, C)."""
        return counting.class_counts(self.labels, self.y_pred.shape[1])

    @once
    def binary_counts(self) -> torch.Tensor:
        """The counts of class 1 of binary data, (3, 1)."""
        return counting.binary_counts(self.y_pred, self.y)

    @once
    def label_counts(self) -> torch.Tensor:
        """The counts of the labels of multilabel data, (3, C)."""
        return counting.label_counts(self.y_pred, self.y)

    @once
    def num_not_binary(self) -> torch.Tensor | int:
        """How many values are neither 0 nor 1; see :func:`num_not_binary`."""
        return counting.num_not_binary(self.y_pred, self.y)
