"""Accuracy: the fraction of correct predictions."""

from __future__ import annotations

import torch

from glowplug import sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.batch import Batch
from glowplug_metrics.summation import summand
from glowplug_metrics.task_metric import TaskMetric, fetched

__all__ = ["Accuracy", "matches"]


def matches(y_pred: torch.Tensor, y: torch.Tensor, is_multilabel: bool = False) -> torch.Tensor:
    """Return for each example whether its prediction is right.

    Args:
        y_pred: Scores of shape (N, C, ...) for multiclass, else values 0 and 1; see :func:`task_of`.
        y: Targets.
        is_multilabel: Whether an example is a row of C labels, which all have to be right.

    Returns:
        A bool tensor of shape (N, ...).

    Raises:
        ValueError: If the shapes do not match.

    Example:
        >>> matches(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor([ True, False])
    """
    batch = Batch(y_pred, y)
    kind, _ = batch.multilabel_task if is_multilabel else batch.task
    return _matches(kind, batch)


class Accuracy(TaskMetric):
    """The fraction of correct predictions: binary, multiclass or multilabel.

    The output is ``(y_pred, y)``, or a mapping with these keys. Their shapes decide: y_pred (N, C, ...) and y (N, ...) is
    multiclass, with scores; the same shape, or (N, 1, ...) for y_pred, is binary, with values 0 and 1;
    ``is_multilabel=True`` takes (N, C, ...) for both, with values 0 and 1, and counts examples whose labels are all right.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``, for example with probabilities rounded to 0 and 1.
        is_multilabel: Whether each example has C labels.
        device: See ``glowplug.Metric``. The counts stay on the device of the data, so no update waits for it.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: At an update: not tensors.
        ValueError: At an update: mismatched shapes, a changed number of classes, or binary values
            other than 0 and 1 (of data on an accelerator at ``compute``, since looking at each batch would wait for it).
        RuntimeError: At an update: a changed kind of data.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update((torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])))
        >>> accuracy.compute()
        0.5
    """

    _state_dict_all_req_keys = ("_num_correct", "_kind", "_num_classes", "_num_examples", "_num_invalid")

    def reset(self) -> None:
        """Discard all data and its kind."""
        super().reset()
        self._num_correct: torch.Tensor | int = 0

    def count(self, batch: Batch) -> None:
        """Count one batch.

        Args:
            batch: The batch, which other metrics may share.
        """
        kind = self._kind_of(batch)
        if kind != "multiclass":
            self._num_invalid += batch.num_not_binary
        right = _matches(kind, batch)
        self._num_correct += summand(right.count_nonzero())
        self._num_examples += right.numel()

    @sync_all_reduce("_num_correct", "_num_examples", "_num_invalid")
    def compute(self) -> float:
        """Return the fraction of correct predictions, from 0 to 1, over all processes.

        Raises:
            NotComputableError: If there has been no example.
            ValueError: Binary values other than 0 and 1 among data on an accelerator.
        """
        if self._num_examples == 0:
            raise NotComputableError("Accuracy has seen no example since it was reset")
        correct, num_invalid = fetched(torch.as_tensor(self._num_correct), self._num_invalid)
        self._refuse_invalid(num_invalid)
        return int(correct) / self._num_examples


def _matches(kind: str, batch: Batch) -> torch.Tensor:
    y_pred, y = batch.y_pred, batch.y
    if kind == "multiclass":
        return batch.predicted == y
    if kind == "multilabel":
        return (y_pred == y).all(1)
    return (y_pred if y_pred.ndim == y.ndim else y_pred.squeeze(1)) == y
