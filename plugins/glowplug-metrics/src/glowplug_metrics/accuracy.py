"""Accuracy: the fraction of correct predictions."""

from __future__ import annotations

import torch

from glowplug import sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.batch import Batch
from glowplug_metrics.summation import summand
from glowplug_metrics.task_metric import TaskMetric, fetch

__all__ = ["Accuracy", "matches"]


def matches(y_pred: torch.Tensor, y: torch.Tensor, is_multilabel: bool = False) -> torch.Tensor:
    """Return for each example whether the prediction is correct.

    Args:
        y_pred: Scores of shape (N, C, ...) for multiclass data, or values 0 and 1 for binary and multilabel data. For the shapes,
            see :func:`task_of`.
        y: Targets.
        is_multilabel: Whether each example has C labels. The prediction of an example is correct only if all its labels are
            correct.

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
    """Compute the fraction of correct predictions for binary, multiclass or multilabel data.

    After ``output_transform``, the output must be ``(y_pred, y)`` or a mapping with the keys ``y_pred`` and ``y``. The kind of
    data is determined by ``is_multilabel`` and by the shapes of ``y_pred`` and ``y``:

    - Multiclass data: ``y_pred`` has the shape (N, C, ...) and contains scores. ``y`` has the shape (N, ...) and contains class
      indices.
    - Binary data: ``y_pred`` and ``y`` have the shape (N, ...) and contain only 0 and 1. ``y_pred`` can also have the shape
      (N, 1, ...).
    - Multilabel data (``is_multilabel=True``): ``y_pred`` and ``y`` have the shape (N, C, ...) and contain only 0 and 1. The
      prediction of an example is correct only if all C labels are correct.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``. This function can, for example, round probabilities to 0
            and 1.
        is_multilabel: Whether each example has C labels, each of which is 0 or 1. Defaults to ``False``.
        device: See :class:`glowplug.Metric`. The counts stay on the device of the data, so that updates never wait for an
            accelerator.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        TypeError: If ``y_pred`` or ``y`` is not a tensor.
        ValueError: If the shapes do not match, if the number of classes changes, or if binary or multilabel values are not 0
            or 1. Values on an accelerator are checked only in ``compute``, because each check has to wait for the accelerator.
        RuntimeError: If the kind of data changes between updates.

    Example:
        >>> import torch
        >>> accuracy = Accuracy()
        >>> accuracy.update((torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])))
        >>> accuracy.compute()
        0.5
    """

    _state_dict_all_req_keys = ("_num_correct", "_kind", "_num_classes", "_num_examples", "_num_invalid")

    def reset(self) -> None:
        """Discard the counts and the kind of data."""
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
        correct = _matches(kind, batch)
        self._num_correct += summand(correct.count_nonzero())
        self._num_examples += correct.numel()

    @sync_all_reduce("_num_correct", "_num_examples", "_num_invalid")
    def compute(self) -> float:
        """Return the fraction of correct predictions, from 0 to 1, over all processes.

        Raises:
            NotComputableError: If there are no examples.
            ValueError: If binary or multilabel values on an accelerator were not 0 or 1.
        """
        if self._num_examples == 0:
            raise NotComputableError("Accuracy has received no examples since its last reset")
        correct, num_invalid = fetch(torch.as_tensor(self._num_correct), self._num_invalid)
        self._check_invalid(num_invalid)
        return int(correct) / self._num_examples


def _matches(kind: str, batch: Batch) -> torch.Tensor:
    y_pred, y = batch.y_pred, batch.y
    if kind == "multiclass":
        return batch.predicted == y
    if kind == "multilabel":
        return (y_pred == y).all(1)
    return (y_pred if y_pred.ndim == y.ndim else y_pred.squeeze(1)) == y
