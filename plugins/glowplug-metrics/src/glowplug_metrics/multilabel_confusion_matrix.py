"""MultiLabelConfusionMatrix: a confusion matrix for each label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from glowplug import identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.batch import Batch
from glowplug_metrics.summation import add_in_place
from glowplug_metrics.task_metric import TaskMetric, fetch

__all__ = ["MultiLabelConfusionMatrix", "label_matrices"]


def label_matrices(counts: torch.Tensor, examples: int) -> torch.Tensor:
    """Return ``[[true negatives, false positives], [false negatives, true positives]]`` for each label.

    Args:
        counts: Counts of shape (3, C), as returned by :func:`label_counts`.
        examples: Number of examples.

    Returns:
        Counts of shape (C, 2, 2).

    Example:
        >>> label_matrices(torch.tensor([[3], [4], [5]]), examples=9)
        tensor([[[3, 1],
                 [2, 3]]])
    """
    correct, predicted, actual = counts
    cells = (examples - predicted - actual + correct, predicted - correct, actual - correct, correct)
    return torch.stack(cells, dim=1).view(-1, 2, 2)


class MultiLabelConfusionMatrix(TaskMetric):
    """Compute a confusion matrix for each label, with the true positives at ``[1, 1]``.

    The output is ``(y_pred, y)``, or a mapping with the keys ``y_pred`` and ``y``. The tensors ``y_pred`` and ``y`` have the
    shape (N, C, ...) and contain only 0 and 1.

    Args:
        num_classes: Number of labels C, at least 2.
        output_transform: Turns the engine's output into ``(y_pred, y)``, for example with probabilities rounded to 0 and 1.
        device: See :class:`glowplug.Metric`. The counts stay on the device of the data, so that updates never wait for an
            accelerator.
        normalized: Whether to divide the counts by the number of examples. Defaults to ``False``.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        TypeError: If ``y_pred`` or ``y`` is not a tensor.
        ValueError: If ``num_classes`` is below 2, if shapes do not match, or if values are not 0 or 1. Values on an
            accelerator are checked only in ``compute``.

    Example:
        >>> import torch
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
            raise ValueError(f"num_classes must be at least 2, got {num_classes!r}")
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
        self._counts = add_in_place(self._counts, batch.label_counts)
        self._num_examples += batch.y.numel() // self.num_classes

    @sync_all_reduce("_counts", "_num_examples", "_num_invalid")
    def compute(self) -> torch.Tensor:
        """Return the matrices over all processes as a tensor of shape (C, 2, 2).

        The dtype is float64 if ``normalized`` is true, and int64 otherwise.

        Raises:
            NotComputableError: If there are no examples.
            ValueError: If an accelerator tensor contained values other than 0 and 1.
        """
        if self._num_examples == 0:
            raise NotComputableError(
                "MultiLabelConfusionMatrix has received no examples since its last reset"
            )
        counts, num_invalid = fetch(self._counts, self._num_invalid)
        self._check_invalid(num_invalid)
        matrices = label_matrices(counts, self._num_examples)
        return matrices.double() / self._num_examples if self.normalized else matrices

    def _begin(self, task: Any) -> None:
        raise ValueError(
            f"MultiLabelConfusionMatrix was created with num_classes={self.num_classes}, but the data has {task[1]} labels; create "
            f"it with num_classes={task[1]}"
        )
