"""MultiLabelConfusionMatrix: for each label, how often it was predicted and how often there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from glowplug import identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.batch import Batch
from glowplug_metrics.summation import added_up
from glowplug_metrics.task_metric import TaskMetric, fetched

__all__ = ["MultiLabelConfusionMatrix", "label_matrices"]


def label_matrices(counts: torch.Tensor, examples: int) -> torch.Tensor:
    """Return one matrix for each label: ``[[absent and not predicted, absent and predicted], [missed, found]]``.

    Args:
        counts: Shape (3, C), as of :func:`class_counts`.
        examples: How many there are.

    Returns:
        Counts of shape (C, 2, 2).

    Example:
        >>> label_matrices(torch.tensor([[3], [4], [5]]), examples=9)
        tensor([[[3, 1],
                 [2, 3]]])
    """
    right, predicted, actual = counts
    cells = (examples - predicted - actual + right, predicted - right, actual - right, right)
    return torch.stack(cells, dim=1).view(-1, 2, 2)


class MultiLabelConfusionMatrix(TaskMetric):
    """For each label a confusion matrix of its own, with ``[1, 1]`` the number of those found.

    The output is ``(y_pred, y)``, or a mapping with these keys: values 0 and 1 of shape (N, C, ...).

    Args:
        num_classes: C, at least 2.
        output_transform: Turns the engine's output into ``(y_pred, y)``, for example with probabilities rounded to 0 and 1.
        device: See ``glowplug.Metric``. The counts stay on the device of the data, so no update waits for it.
        normalized: Whether the four values of each label are shares of its examples.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: At an update: not tensors.
        ValueError: Less than 2 classes; at an update: mismatched shapes, or values other than 0 and 1 (of data
            on an accelerator at ``compute``).

    Example:
        >>> cm = MultiLabelConfusionMatrix(num_classes=2)
        >>> cm.update((torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])))
        >>> cm.compute()
        tensor([[[0, 1],
                 [0, 1]],
        <BLANKLINE>
                [[1, 0],
                 [0, 1]]])
    """

    _state_dict_all_req_keys = ("_counts", "_num_examples", "_num_invalid")

    def __init__(
        self,
        num_classes: int,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        normalized: bool = False,
        skip_unrolling: bool = False,
    ) -> None:
        if num_classes <= 1:
            raise ValueError(f"a confusion matrix is of at least 2 classes, got num_classes={num_classes!r}")
        self.num_classes = num_classes
        self.normalized = normalized
        super().__init__(output_transform, is_multilabel=True, device=device, skip_unrolling=skip_unrolling)

    def reset(self) -> None:
        """Discard all data."""
        super().reset()
        self._kind, self._num_classes = "multilabel", self.num_classes
        self._counts = torch.zeros((3, self.num_classes), dtype=torch.int64, device=self._device)

    def count(self, batch: Batch) -> None:
        """Count one batch.

        Args:
            batch: The batch, which other metrics may share.
        """
        self._kind_of(batch)
        self._num_invalid += batch.num_not_binary
        self._counts = added_up(self._counts, batch.label_counts)
        self._num_examples += batch.y.numel() // self.num_classes

    @sync_all_reduce("_counts", "_num_examples", "_num_invalid")
    def compute(self) -> torch.Tensor:
        """Return the matrices over all processes: shape (C, 2, 2), int64, and normalized float64.

        Raises:
            NotComputableError: If there has been no example.
            ValueError: Values other than 0 and 1 among data on an accelerator.
        """
        if self._num_examples == 0:
            raise NotComputableError("MultiLabelConfusionMatrix has seen no example since it was reset")
        counts, num_invalid = fetched(self._counts, self._num_invalid)
        self._refuse_invalid(num_invalid)
        matrices = label_matrices(counts, self._num_examples)
        return matrices.double() / self._num_examples if self.normalized else matrices

    def _begin(self, task: Any) -> None:
        raise ValueError(
            f"this MultiLabelConfusionMatrix is of {self.num_classes} classes, and gets data of {task[1]}"
        )
