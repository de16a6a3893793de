"""ConfusionMatrix and metrics computed from it, such as IoU and DiceCoefficient."""

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
from glowplug_metrics.summation import add_in_place

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
    """Count predictions in a matrix with actual classes in rows and predicted classes in columns.

    After ``output_transform``, the output must be ``(y_pred, y)`` or a mapping with the keys ``y_pred`` and ``y``. ``y_pred``
    contains scores of shape (N, C, ...), and ``y`` contains class indices of shape (N, ...). The dimensions after N and C can be,
    for example, the height and width of images. Targets outside the range 0 to C - 1, such as -1 or 255, are ignored.

    Classification metrics on one engine or in one group share statistics if they have the same ``output_transform``.
    Statistics that several metrics need are computed only once per batch.

    Args:
        num_classes: Number of classes C, at least 2. For binary data, convert the predictions to two scores with
            ``output_transform=lambda out: (torch.nn.functional.one_hot(out[0], 2), out[1])``.
        average: ``None`` (default) returns the counts. ``"samples"`` divides the counts by the number of examples, which is the sum
            of N over all batches. ``"recall"`` divides each row by its sum. ``"precision"`` divides each column by its sum.
        output_transform: Turns the engine's output into ``(y_pred, y)``.
        device: See :class:`glowplug.Metric`. The counts stay on the device of the data, so that updates never wait for an
            accelerator.
        skip_unrolling: See :class:`glowplug.Metric`. Unlike for other metrics, the default is ``True``: for outputs that are lists
            of samples, pass ``False``.

    Raises:
        TypeError: If ``y_pred`` or ``y`` is not a tensor.
        ValueError: If ``num_classes`` is below 2, if ``average`` is unknown, or if shapes do not match.

    Example:
        >>> import torch
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
            raise ValueError(f"num_classes must be at least 2, got {num_classes!r}")
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
                f"y_pred must have the shape (N, {classes}, ...) with one score per class, and y must have the shape (N, ...); "
                f"got y_pred {shape} and y {tuple(batch.y.shape)}. If y_pred contains labels, convert the labels with "
                f"torch.nn.functional.one_hot(labels, {classes}), then move the last dimension of the result to position 1"
            )
        if self.num_classes <= FEW_CLASSES:
            self.confusion_matrix = add_in_place(self.confusion_matrix, batch.matrix)
        else:
            self.confusion_matrix = add_confusions(
                self.confusion_matrix.to(batch.y_pred.device), batch.labels
            )
        self._num_examples += batch.y_pred.shape[0]

    @sync_all_reduce("confusion_matrix", "_num_examples")
    def compute(self) -> torch.Tensor:
        """Return the confusion matrix of all processes, a tensor of shape (C, C).

        The dtype is int64 if ``average`` is ``None``, and float64 otherwise.

        Raises:
            NotComputableError: If there are no examples.
        """
        counts = self._counts()
        if self.average is None:
            return counts
        if self.average == "samples":
            return counts.double() / self._num_examples
        return self.normalize(counts, self.average)

    @staticmethod
    def normalize(matrix: torch.Tensor, average: Literal["recall", "precision"]) -> torch.Tensor:
        """Return a float64 copy of a matrix with normalized rows or columns.

        Args:
            matrix: Counts of shape (C, C).
            average: ``"recall"`` divides each row by its sum. ``"precision"`` divides each column by its sum. A row or column of
                zeros is not changed.

        Raises:
            ValueError: If ``average`` is unknown.

        Example:
            >>> ConfusionMatrix.normalize(torch.tensor([[3, 1], [0, 0]]), "recall")
            tensor([[0.7500, 0.2500],
                    [0.0000, 0.0000]], dtype=torch.float64)
        """
        if average not in {"recall", "precision"}:
            raise ValueError(f"average must be 'recall' (rows) or 'precision' (columns), got {average!r}")
        matrix = matrix.double()
        return matrix_figures.ratio(matrix, matrix.sum(1 if average == "recall" else 0, keepdim=True))

    @sync_all_reduce("confusion_matrix", "_num_examples")
    def table(self, class_names: Sequence[str] | None = None) -> ConfusionTable:
        """Return a table of the counts and scores, labeled with class names.

        Like :meth:`compute`, this method must be called on all ranks.

        Args:
            class_names: Names of the classes. Defaults to the class indices.

        Returns:
            A table that can be printed or converted to a DataFrame.

        Raises:
            NotComputableError: If there are no examples.
            ValueError: If the number of names differs from the number of classes, or if names are not unique.

        Example:
            >>> cm = ConfusionMatrix(num_classes=2)
            >>> cm.update((torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])))
            >>> cm.table(["cat", "dog"]).mean()["precision"]
            0.5
        """
        return ConfusionTable(self._counts(), class_names)

    def _counts(self) -> torch.Tensor:
        if self._num_examples == 0:
            raise NotComputableError("ConfusionMatrix has received no examples since its last reset")
        # Copy, because later updates change the matrix in place.
        return self.confusion_matrix.to("cpu", copy=True)


def IoU(cm: ConfusionMatrix, ignore_index: int | None = None) -> MetricsLambda:  # noqa: N802 - the usual name
    """Return a metric that computes the intersection over union of each class.

    The value of a class is ``TP / (TP + FP + FN)``: the number of true positives, divided by the number of true positives, false
    positives and false negatives.

    Args:
        cm: The confusion matrix, with ``average=None`` or ``average="samples"``. Several metrics can share one confusion matrix.
        ignore_index: Index of a class to omit from the result. By default, no class is omitted.

    Returns:
        A metric whose value is a float64 tensor of shape (C,), or of shape (C - 1,) with ``ignore_index``. A class that neither
        occurs nor is predicted has the value 0.

    Raises:
        TypeError: If ``cm`` is not a :class:`ConfusionMatrix`.
        ValueError: If ``cm`` has ``average="recall"`` or ``average="precision"``, or if ``ignore_index`` is not the index of a
            class.

    Example:
        >>> import torch
        >>> cm = ConfusionMatrix(num_classes=2)
        >>> iou = IoU(cm)
        >>> iou.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> iou.compute()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    return _of_classes(cm, matrix_figures.iou, ignore_index)


def mIoU(cm: ConfusionMatrix, ignore_index: int | None = None) -> MetricsLambda:  # noqa: N802 - the usual name
    """Return a metric that computes the mean of :func:`IoU` over the classes.

    Args:
        cm: See :func:`IoU`.
        ignore_index: See :func:`IoU`.

    Returns:
        A metric whose value is a float64 scalar.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> import torch
        >>> metric = mIoU(ConfusionMatrix(num_classes=2), ignore_index=0)
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """
    return IoU(cm, ignore_index).mean()


def JaccardIndex(cm: ConfusionMatrix, ignore_index: int | None = None) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return the same metric as :func:`IoU`.

    Args:
        cm: See :func:`IoU`.
        ignore_index: See :func:`IoU`.

    Returns:
        See :func:`IoU`.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> import torch
        >>> metric = JaccardIndex(ConfusionMatrix(num_classes=2))
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> metric.compute()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    return IoU(cm, ignore_index)


def DiceCoefficient(cm: ConfusionMatrix, ignore_index: int | None = None) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return a metric that computes the Dice coefficient of each class.

    The value of a class is ``2 * TP / (2 * TP + FP + FN)``, with its numbers of true positives, false positives and false
    negatives. It is equal to the F1 score of the class.

    Args:
        cm: See :func:`IoU`.
        ignore_index: See :func:`IoU`.

    Returns:
        A metric whose value is a float64 tensor of shape (C,), or of shape (C - 1,) with ``ignore_index``. A class that neither
        occurs nor is predicted has the value 0.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> import torch
        >>> dice = DiceCoefficient(ConfusionMatrix(num_classes=2))
        >>> dice.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> dice.compute()
        tensor([0.6667, 0.6667], dtype=torch.float64)
    """
    return _of_classes(cm, matrix_figures.dice, ignore_index)


def cmAccuracy(cm: ConfusionMatrix) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return a metric that computes the fraction of correct predictions.

    Args:
        cm: See :func:`IoU`.

    Returns:
        A metric whose value is a float64 scalar.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> import torch
        >>> metric = cmAccuracy(ConfusionMatrix(num_classes=2))
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """
    return _not_normalized(cm).map(matrix_figures.accuracy)


def cmPrecision(cm: ConfusionMatrix, average: bool = True) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return a metric that computes the precision of each class, or the mean precision.

    Args:
        cm: See :func:`IoU`.
        average: Whether to return the mean over the classes instead of the value of each class. Defaults to ``True``.

    Returns:
        A metric whose value is a float64 scalar or, with ``average=False``, a float64 tensor of shape (C,). A class with a zero
        denominator has the value 0.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> import torch
        >>> metric = cmPrecision(ConfusionMatrix(num_classes=2), average=False)
        >>> metric.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> metric.compute()
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    return _per_class(cm, matrix_figures.precision, average)


def cmRecall(cm: ConfusionMatrix, average: bool = True) -> MetricsLambda:  # noqa: N802 - its name in ignite
    """Return a metric that computes the recall of each class, or the mean recall.

    Args:
        cm: See :func:`IoU`.
        average: Whether to return the mean over the classes instead of the value of each class. Defaults to ``True``.

    Returns:
        A metric whose value is a float64 scalar or, with ``average=False``, a float64 tensor of shape (C,). A class with a zero
        denominator has the value 0.

    Raises:
        TypeError: See :func:`IoU`.
        ValueError: See :func:`IoU`.

    Example:
        >>> import torch
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
            f"cm must be a ConfusionMatrix with average=None or average='samples', got average={cm.average!r}"
        )
    return cm


def _of_classes(
    cm: ConfusionMatrix, figure: Callable[[torch.Tensor], torch.Tensor], ignore_index: int | None
) -> MetricsLambda:
    """Return a metric that computes a score for each class except the ignored class."""
    each = _not_normalized(cm).map(figure)
    if ignore_index is None:
        return each
    if ignore_index not in range(cm.num_classes):
        raise ValueError(f"ignore_index must be a class from 0 to {cm.num_classes - 1}, got {ignore_index!r}")
    return each[[number for number in range(cm.num_classes) if number != ignore_index]]
