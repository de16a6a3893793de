"""Accuracy: the share of right predictions."""

from __future__ import annotations

from typing import Any

import torch

from glowplug import sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.accumulator import summand
from glowplug_metrics.classification import task_of
from glowplug_metrics.classification_metric import TaskMetric, fetched
from glowplug_metrics.counting import num_not_binary, predicted_classes
from glowplug_metrics.shared_counts import shared

__all__ = ["Accuracy", "matches"]


def matches(y_pred: torch.Tensor, y: torch.Tensor, is_multilabel: bool = False) -> torch.Tensor:
    """Return for each example whether its prediction is right.

    Args:
        y_pred: scores of shape (N, C, ...) for multiclass, else values 0 and 1; see :func:`task_of`.
        y: targets.
        is_multilabel: whether an example is a row of C labels, which all have to be right.

    Returns:
        A bool tensor of shape (N, ...).

    Raises:
        ValueError: shapes that do not go together.

    Example:
        >>> matches(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor([ True, False])
    """
    kind, _ = task_of(y_pred, y, is_multilabel)
    return _matches(kind, y_pred, y)


class Accuracy(TaskMetric):
    """The share of right predictions: binary, multiclass or multilabel (M-084).

    The output is ``(y_pred, y)``, or a mapping with these keys. Their shapes decide: y_pred (N, C, ...) and y (N, ...) is
    multiclass, with scores; the same shape, or (N, 1, ...) for y_pred, is binary, with values 0 and 1;
    ``is_multilabel=True`` takes (N, C, ...) for both, with values 0 and 1, and counts examples whose labels are all right.

    Args:
        output_transform: makes ``(y_pred, y)`` of the engine's output. Probabilities are made binary here.
        is_multilabel: whether each example has C labels.
        device: see ``glowplug.Metric``. The counts stay on the device of the data, and no update waits for it.
        skip_unrolling: see ``glowplug.Metric``.

    Raises:
        TypeError: at an update: not tensors.
        ValueError: at an update: shapes that do not go together, another number of classes than before, or binary values
            other than 0 and 1 (of data on an accelerator at ``compute``, since looking at each batch would wait for it).
        RuntimeError: at an update: another kind of data than before.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update((torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])))
        >>> accuracy.compute()
        0.5
    """

    _state_dict_all_req_keys = ("_num_correct", "_kind", "_num_classes", "_num_examples", "_num_invalid")

    def reset(self) -> None:
        """Forget all data, and its kind."""
        super().reset()
        self._num_correct: torch.Tensor | int = 0

    def update(self, output: Any) -> None:
        """Count one batch.

        Args:
            output: ``(y_pred, y)``.
        """
        y_pred, y = self.tensors_of(output)
        kind = self._task_of(y_pred, y)
        if kind != "multiclass":
            self._num_invalid += shared(num_not_binary, y_pred, y)
        right = _matches(kind, y_pred, y)
        self._num_correct += summand(right.count_nonzero())
        self._num_examples += right.numel()

    @sync_all_reduce("_num_correct", "_num_examples", "_num_invalid")
    def compute(self) -> float:
        """Return the share of right predictions, from 0 to 1, over all processes.

        Raises:
            NotComputableError: there has been no example.
            ValueError: binary values other than 0 and 1 among data on an accelerator.
        """
        if self._num_examples == 0:
            raise NotComputableError("Accuracy has seen no example since it was reset")
        correct, num_invalid = fetched(torch.as_tensor(self._num_correct), self._num_invalid)
        self._refuse_invalid(num_invalid)
        return int(correct) / self._num_examples


def _matches(kind: str, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if kind == "multiclass":
        return shared(predicted_classes, y_pred, y) == y
    if kind == "multilabel":
        return (y_pred == y).all(1)
    return (y_pred if y_pred.ndim == y.ndim else y_pred.squeeze(1)) == y
