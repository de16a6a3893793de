"""Common base class of Precision and Recall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

import torch

from glowplug import identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.batch import FEW_CLASSES, Batch
from glowplug_metrics.counting import ACTUAL, CORRECT, matrix_counts, summed_ratios
from glowplug_metrics.summation import add_in_place
from glowplug_metrics.task_metric import TaskMetric, fetch

__all__ = ["Averaging", "ClassRatio", "averaged_ratio"]

Averaging: TypeAlias = bool | Literal["macro", "micro", "weighted", "samples"] | None
"""Type of the option ``average``."""

_NAMES = ("macro", "micro", "weighted", "samples")


def averaged_ratio(counts: torch.Tensor, row: int, average: Averaging) -> torch.Tensor:
    """Return each class's ratio of correct predictions to a denominator, or the average of these ratios.

    Args:
        counts: Counts of shape (3, C), as returned by :func:`class_counts`.
        row: Index of the row of ``counts`` that contains the denominators. A class with the denominator 0 has the ratio 0.
        average: ``False`` and ``None`` return the ratio of each class. ``True`` and ``"macro"`` return the mean over the classes.
            ``"weighted"`` returns the mean weighted by the number of examples of each class. ``"micro"`` returns the ratio that
            is computed from the counts summed over all classes.

    Returns:
        A float64 tensor of shape (C,), or a scalar float64 tensor if the ratios are averaged.

    Example:
        >>> counts = torch.tensor([[3, 0], [4, 0], [3, 1]])
        >>> averaged_ratio(counts, 1, None), averaged_ratio(counts, 1, "macro")
        (tensor([0.7500, 0.0000], dtype=torch.float64), tensor(0.3750, dtype=torch.float64))
    """
    if average == "micro":
        counts = counts.sum(1, keepdim=True)
    ratios = counts[CORRECT].double() / counts[row].clamp(min=1)
    if average == "weighted":
        return (ratios * counts[ACTUAL]).sum() / counts[ACTUAL].sum().clamp(min=1)
    return ratios.mean() if average else ratios


class ClassRatio(TaskMetric):
    """Base class of Precision and Recall, which differ only in the denominator.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``.
        average: See :class:`~glowplug_metrics.Precision`.
        is_multilabel: Whether each example has C labels, each of which is 0 or 1.
        device: See :class:`glowplug.Metric`.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        ValueError: If ``average`` is unknown.

    Example:
        >>> from glowplug_metrics import Precision, Recall
        >>> issubclass(Precision, ClassRatio), issubclass(Recall, ClassRatio)
        (True, True)
    """

    _state_dict_all_req_keys = ("_total", "_kind", "_num_classes", "_num_examples", "_num_invalid")

    _row: ClassVar[int]

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = identity,
        average: Averaging = False,
        is_multilabel: bool = False,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        if not (average is None or isinstance(average, bool) or average in _NAMES):
            raise ValueError(
                f"average must be False, None, True or one of {', '.join(map(repr, _NAMES))}, got {average!r}"
            )
        self._average = average
        super().__init__(output_transform, is_multilabel, device, skip_unrolling)

    @property
    def average(self) -> Averaging:
        """The option ``average``."""
        return self._average

    def reset(self) -> None:
        """Discard the counts and the kind of data."""
        super().reset()
        self._total = self._zeros(())

    def count(self, batch: Batch) -> None:
        """Count one batch.

        Args:
            batch: The batch, which other metrics may share.
        """
        kind = self._kind_of(batch)
        if kind == "multiclass":
            num_invalid = batch.labels.num_invalid
            added = batch.matrix if self._num_classes <= FEW_CLASSES else batch.class_counts
            if isinstance(num_invalid, int) and num_invalid:
                raise _not_classes_error(batch.y, self._num_classes)
        else:
            num_invalid, added = batch.num_not_binary, self._counts_of(batch, kind)
        self._total = add_in_place(self._total, added)
        self._num_invalid += num_invalid
        self._num_examples += batch.y.numel() // (self._num_classes if kind == "multilabel" else 1)

    def compute(self) -> torch.Tensor | float:
        """Return the value of each class, or the average value, computed over all processes.

        Returns:
            A float64 tensor, or a float if the value is an average.

        Raises:
            NotComputableError: If there are no examples.
            ValueError: If data on an accelerator contained invalid values.
            RuntimeError: If the kind of data or the number of classes differs between ranks.
        """
        self._agree_on_task()
        return self._computed()

    def _counts_of(self, batch: Batch, kind: str) -> torch.Tensor:
        if self._average == "samples":
            return summed_ratios(batch.y_pred, batch.y, self._row)
        return batch.binary_counts if kind == "binary" else batch.label_counts

    def _begin(self, task: Any) -> None:
        if self._average == "samples" and task[0] != "multilabel":
            raise ValueError(
                f"{type(self).__name__} with average='samples' needs multilabel data, got {task[0]} data; set "
                "is_multilabel=True or choose another average"
            )
        super()._begin(task)
        kind, classes = task
        rows = classes if kind == "multiclass" and classes <= FEW_CLASSES else 3
        self._total = self._zeros((rows, classes))

    def _zeros(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return the initial total: the scalar 0 for ``average="samples"``, otherwise a tensor of zeros."""
        if self._average == "samples":
            return torch.zeros((), dtype=self._double_dtype, device=self._device)
        return torch.zeros(shape, dtype=torch.int64, device=self._device)

    @sync_all_reduce("_total", "_num_examples", "_num_invalid")
    def _computed(self) -> torch.Tensor | float:
        if self._num_examples == 0:
            raise NotComputableError(f"{type(self).__name__} has received no examples since its last reset")
        total, num_invalid = fetch(self._total, self._num_invalid)
        self._check_invalid(num_invalid)
        if self._average == "samples":
            return total.item() / self._num_examples
        if self._kind == "multiclass" and self._num_classes <= FEW_CLASSES:
            total = matrix_counts(total)
        is_binary = self._kind == "binary"
        if is_binary and self._average is not False:
            total = _both_classes(total, self._num_examples)
        value = averaged_ratio(total, self._row, self._average)
        if self._average:
            return value.item()
        return value[0] if is_binary and self._average is False else value


def _both_classes(counts: torch.Tensor, examples: int) -> torch.Tensor:
    """Return the counts of classes 0 and 1, computed from the counts of class 1."""
    correct, predicted, actual = counts
    absent = torch.stack((examples - predicted - actual + correct, examples - predicted, examples - actual))
    return torch.cat((absent, counts), dim=1)


def _not_classes_error(y: torch.Tensor, classes: int) -> ValueError:
    others = y[(y < 0) | (y >= classes) | (y != y.long())]
    return ValueError(
        f"y_pred has {classes} classes, so targets must be classes from 0 to {classes - 1}, but y contains "
        f"{others.flatten()[:3].tolist()}; remove these targets with output_transform"
    )
