"""TopKCategoricalAccuracy: how often the actual class has one of the k highest scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from glowplug import identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.batch import Batch
from glowplug_metrics.classification_metric import ClassificationMetric
from glowplug_metrics.summation import summand

__all__ = ["TopKCategoricalAccuracy", "among_top_k"]


def among_top_k(y_pred: torch.Tensor, y: torch.Tensor, k: int) -> torch.Tensor:
    """Return whether the actual class of each example has one of the k highest scores.

    Args:
        y_pred: Scores of shape (N, C, ...).
        y: Classes of shape (N, ...).
        k: Number of highest scores to consider, from 1 to C.

    Returns:
        A bool tensor of shape (N, ...).

    Raises:
        ValueError: If the shapes do not match, or there are fewer than k classes.

    Example:
        >>> among_top_k(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), torch.tensor([1, 0]), k=2)
        tensor([ True, False])
    """
    if y_pred.ndim != y.ndim + 1 or y_pred.shape[:1] + y_pred.shape[2:] != y.shape:
        raise ValueError(
            f"y_pred and y must have the shapes (N, C, ...) and (N, ...), got {tuple(y_pred.shape)} and "
            f"{tuple(y.shape)}"
        )
    if y_pred.shape[1] < k:
        raise ValueError(
            f"y_pred must have scores for at least k={k} classes, got {y_pred.shape[1]}; choose a smaller k"
        )
    return (y_pred.topk(k, dim=1).indices == y.unsqueeze(1)).any(1)


class TopKCategoricalAccuracy(ClassificationMetric):
    """Compute the fraction of examples whose actual class has one of the k highest scores.

    Args:
        k: Number of highest scores to consider, at least 1. Defaults to 5.
        output_transform: Turns the engine's output into ``(y_pred, y)``, with scores of shape (N, C, ...) and classes of shape
            (N, ...).
        device: See :class:`glowplug.Metric`. The count stays on the device of the data, so that updates never wait for an
            accelerator.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        ValueError: If ``k`` is below 1, if shapes do not match, or if there are fewer than k classes.
        TypeError: If ``y_pred`` or ``y`` is not a tensor.

    Example:
        >>> import torch
        >>> top2 = TopKCategoricalAccuracy(k=2)
        >>> top2.update((torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), torch.tensor([1, 0])))
        >>> top2.compute()
        0.5
    """

    _state_dict_all_req_keys = ("_num_correct", "_num_examples")

    def __init__(
        self,
        k: int = 5,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k!r}")
        self._k = k
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Discard all data."""
        self._num_correct: torch.Tensor | int = 0
        self._num_examples = 0

    def count(self, batch: Batch) -> None:
        """Count one batch.

        Args:
            batch: The batch, which other metrics may share.
        """
        found = among_top_k(batch.y_pred, batch.y, self._k)
        self._num_correct += summand(found.count_nonzero())
        self._num_examples += found.numel()

    @sync_all_reduce("_num_correct", "_num_examples")
    def compute(self) -> float:
        """Return the fraction of examples, from 0 to 1, over all processes.

        Raises:
            NotComputableError: If there are no examples.
        """
        if self._num_examples == 0:
            raise NotComputableError("TopKCategoricalAccuracy has received no examples since its last reset")
        return int(self._num_correct) / self._num_examples
