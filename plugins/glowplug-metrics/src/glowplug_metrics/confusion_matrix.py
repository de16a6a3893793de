"""ConfusionMatrix, and the metrics that are made of one: IoU, mIoU, DiceCoefficient, cmAccuracy and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from glowplug import MetricsLambda, identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics import matrix_figures
from glowplug_metrics.batch import FEW_CLASSES, Batch
from glowplug_metrics.classification_metric import ClassificationMetric
from glowplug_metrics.confusion_table import ConfusionTable
from glowplug_metrics.counting import add_confusions
from glowplug_metrics.summation import added_up

__all__ = [
    "ConfusionMatrix",
    "DiceCoefficient",
    "IoU",
    "JaccardIndex",
    "cmAccuracy",
    "cmPrecision",
    "cmRecall",
    "mIoU",
]


class ConfusionMatrix(ClassificationMetric):
    """How often each class was predicted as each: actual classes in rows, predicted ones in columns.

    The output is ``(y_pred, y)``, or a mapping with these keys: scores of shape (N, C, ...) and classes of shape (N, ...), the
    pixels of a segmentation for example. Targets that are no class from 0 to C - 1, such as -1 or 255, are ignored.

    Attached beside Precision, Recall and others to one engine, or in one group, it shares their work.

    Args:
        num_classes: C, at least 2. For binary data make two scores:
            ``output_transform=lambda out: (torch.nn.functional.one_hot(out[0], 2), out[1])``.
        average: ``None``: counts. ``"samples"``: divided by the number of examples (N over all batches). ``"recall"``: each
            row divided by its sum. ``"precision"``: each column divided by its sum.
        output_transform: Turns the engine's output into ``(y_pred, y)``.
        device: See ``glowplug.Metric``. The counts stay on the device of the data, so no update waits for it.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: At an update: not tensors.
        ValueError: Less than 2 classes, or another ``average``; at an update: mismatched shapes.

    Example:
        >>> cm = ConfusionMatrix(num_classes=2)
        >>> y_pred = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
        >>> cm.update((y_pred, torch.tensor([1, 0, 0, -1])))
        >>> cm.compute()
        tensor([[1, 1],
                [0, 1]])
        >>> (cm.diag().sum() / cm.sum()).compute()
        tensor(0.6667)
    """

    _state_dict_all_req_keys = ("confusion_matrix", "_num_examples")

    def __init__(
        self,
        num_classes: int,
        average: Literal["samples", "recall", "precision"] | None = None,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = True,
    ) -> None:
        if num_classes <= 1:
            raise ValueError(f"a confusion matrix is of at least 2 classes, got num_classes={num_classes!r}")
        if average not in {None, "samples", "recall", "precision"}:
            raise ValueError(f"average must be None, 'samples', 'recall' or 'precision', got {average!r}")
        self.num_classes = num_classes
        self.average = average
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Discard all data."""
        shape = (self.num_classes, self.num_classes)
        self.confusion_matrix = torch.zeros(shape, dtype=torch.int64, device=self._device)
        self._num_examples = 0

    def count(self, batch: Batch) -> None:
        """Count one batch.

        Args:
            batch: The batch, which other metrics may share.
        """
        if batch.task != ("multiclass", self.num_classes):
            classes, shape = self.num_classes, tuple(batch.y_pred.shape)
            raise ValueError(
                f"y_pred has scores of {classes} classes and the shape (N, {classes}, ...), got {shape}; of predicted labels, "
                f"torch.nn.functional.one_hot(labels, {classes}) makes scores, with the classes as the last dimension"
            )
        if self.num_classes <= FEW_CLASSES:
            self.confusion_matrix = added_up(self.confusion_matrix, batch.matrix)
        else:
            self.confusion_matrix = add_confusions(
                self.confusion_matrix.to(batch.y_pred.device), batch.labels
            )
        self._num_examples += batch.y_pred.shape[0]

    @sync_all_reduce("confusion_matrix", "_num_examples")
    def compute(self) -> torch.Tensor:
        """Return the matrix over all processes: shape (C, C), int64, and with an average float64.

        Raises:
            NotComputableError: If there has been no example.
        """
        counts = self._counts()
        if self.average is None:
            return counts
        if self.average == "samples":
            return counts.double() / self._num_examples
        return self.normalize(counts, self.average)

    @staticmethod
    def normalize(matrix: torch.Tensor, average: Literal["recall", "precision"]) -> torch.Tensor:
        """Return a matrix of shares, float64.

        Args:
            matrix: Counts of shape (C, C).
            average: ``"recall"``: each row is divided by its sum. ``"precision"``: each column. Empty ones stay 0.

        Raises:
            ValueError: If ``average`` is unknown.

        Example:
            >>> ConfusionMatrix.normalize(torch.tensor([[3, 1], [0, 0]]), "recall")
            tensor([[0.7500, 0.2500],
                    [0.0000, 0.0000]], dtype=torch.float64)
        """
        if average not in {"recall", "precision"}:
            raise ValueError(
                f"a matrix is normalized for 'recall', by rows, or for 'precision', by columns, got {average!r}"
            )
        matrix = matrix.double()
        return matrix_figures.ratio(matrix, matrix.sum(1 if average == "recall" else 0, keepdim=True))

    @sync_all_reduce("confusion_matrix", "_num_examples")
    def table(self, class_names: Sequence[str] | None = None) -> ConfusionTable:
        """Return the counts with the names of the classes, and the figures of each class; a collective, as ``compute``.

        Args:
            class_names: One for each class; by default their numbers.

        Returns:
            What ``print`` shows as text, and pandas as a DataFrame.

        Raises:
            NotComputableError: If there has been no example.
            ValueError: Names that do not fit.

        Example:
            >>> cm = ConfusionMatrix(num_classes=2)
            >>> cm.update((torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])))
            >>> cm.table(["cat", "dog"]).mean()["precision"]
            0.5
        """
        return ConfusionTable(self._counts(), class_names)

    def _counts(self) -> torch.Tensor:
        if self._num_examples == 0:
            raise NotComputableError("ConfusionMatrix has seen no example since it was reset")
        return self.confusion_matrix.to("cpu", copy=True)  # later updates change it in place


def IoU(cm: ConfusionMatrix, ignore_index: int | None = None) -> MetricsLambda:  # noqa: N802 - the name that people know
    """Return a metric: the intersection over the union of predicted and actual ones, for each class.

    Args:
        cm: The confusion matrix, of counts or divided by the number of examples. One can serve many metrics.
        ignore_index: A class that is left out of the value.

    Returns:
        A metric whose value has the shape (C,), or (C - 1,); float64. A class that is neither there nor predicted has 0.

    Raises:
        TypeError: If ``cm`` is no :class:`ConfusionMatrix`.
        ValueError: Its rows or columns are normalized; ``ignore_index`` is none of its classes.

    Example:
        >>> cm = ConfusionMatrix(num_classes=2)
        >>> iou = IoU(cm)
        >>> iou.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> iou.compute()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    return _of_classes(cm, matrix_figures.iou, ignore_index)


def mIoU(cm: ConfusionMatrix, ignore_index: int | None = None) -> MetricsLambda:  # noqa: N802 - the name that people know
    """Return a metric: the mean of :func:`IoU` over the classes.

    Args:
        cm: See :func:`IoU`.
        ignore_index: See :func:`IoU`.

    Returns:
        A metric whose value has no dimensions.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> metric = mIoU(ConfusionMatrix(num_classes=2), ignore_index=0)
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """
    return IoU(cm, ignore_index).mean()


def JaccardIndex(cm: ConfusionMatrix, ignore_index: int | None = None) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return :func:`IoU`, by its other name.

    Args:
        cm: See :func:`IoU`.
        ignore_index: See :func:`IoU`.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> metric = JaccardIndex(ConfusionMatrix(num_classes=2))
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> metric.compute()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    return IoU(cm, ignore_index)


def DiceCoefficient(cm: ConfusionMatrix, ignore_index: int | None = None) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return a metric: twice the intersection over the sum of predicted and actual ones, for each class.

    Args:
        cm: See :func:`IoU`.
        ignore_index: See :func:`IoU`.

    Returns:
        A metric whose value has the shape (C,), or (C - 1,); float64. A class that is neither there nor predicted has 0.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> dice = DiceCoefficient(ConfusionMatrix(num_classes=2))
        >>> dice.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> dice.compute()
        tensor([0.6667, 0.6667], dtype=torch.float64)
    """
    return _of_classes(cm, matrix_figures.dice, ignore_index)


def cmAccuracy(cm: ConfusionMatrix) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return a metric: the fraction of correct predictions.

    Args:
        cm: See :func:`IoU`.

    Returns:
        A metric whose value has no dimensions, float64.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> metric = cmAccuracy(ConfusionMatrix(num_classes=2))
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """
    return _not_normalized(cm).map(matrix_figures.accuracy)


def cmPrecision(cm: ConfusionMatrix, average: bool = True) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return a metric: the precision of each class, or their mean.

    Args:
        cm: See :func:`IoU`.
        average: ``True``: the mean over the classes; ``False``: a tensor of shape (C,). Float64.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> metric = cmPrecision(ConfusionMatrix(num_classes=2), average=False)
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> metric.compute()
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    return _per_class(cm, matrix_figures.precision, average)


def cmRecall(cm: ConfusionMatrix, average: bool = True) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return a metric: the recall of each class, or their mean.

    Args:
        cm: See :func:`IoU`.
        average: ``True``: the mean over the classes; ``False``: a tensor of shape (C,). Float64.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> metric = cmRecall(ConfusionMatrix(num_classes=2), average=False)
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> metric.compute()
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    return _per_class(cm, matrix_figures.recall, average)


def _per_class(
    cm: ConfusionMatrix, figure: Callable[[torch.Tensor], torch.Tensor], average: bool
) -> MetricsLambda:
    each = _not_normalized(cm).map(figure)
    return each.mean() if average else each


def _not_normalized(cm: ConfusionMatrix) -> ConfusionMatrix:
    if not isinstance(cm, ConfusionMatrix):
        raise TypeError(f"cm must be a ConfusionMatrix, got {cm!r}")
    if cm.average not in {None, "samples"}:
        raise ValueError(
            f"this is worked out of counts, which a ConfusionMatrix with average={cm.average!r} has divided; give one with "
            "average=None"
        )
    return cm


def _of_classes(
    cm: ConfusionMatrix, figure: Callable[[torch.Tensor], torch.Tensor], ignore_index: int | None
) -> MetricsLambda:
    """Return the metric of a figure that each class has."""
    each = _not_normalized(cm).map(figure)
    if ignore_index is None:
        return each
    if ignore_index not in range(cm.num_classes):
        raise ValueError(f"ignore_index must be a class from 0 to {cm.num_classes - 1}, got {ignore_index!r}")
    return each[[number for number in range(cm.num_classes) if number != ignore_index]]
