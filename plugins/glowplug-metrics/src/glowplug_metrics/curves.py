"""ROC_AUC, AveragePrecision and their curves, computed by scikit-learn."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from glowplug import identity
from glowplug_metrics.epoch_metric import EpochMetric

__all__ = ["ROC_AUC", "AveragePrecision", "PrecisionRecallCurve", "RocCurve"]


class _Curve(EpochMetric):
    """Metric that calls a scikit-learn function with labels and scores."""

    _function: str
    """Name of the function in ``sklearn.metrics``."""

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = identity,
        check_compute_fn: bool = False,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        _function_of_sklearn(type(self).__name__, self._function)
        super().__init__(self._computed, output_transform, check_compute_fn, device, skip_unrolling)

    @classmethod
    def _computed(cls, y_pred: torch.Tensor, y: torch.Tensor) -> Any:
        function = _function_of_sklearn(cls.__name__, cls._function)
        # NumPy has no bfloat16.
        values = function(y.cpu().numpy(), y_pred.cpu().double().numpy())
        if isinstance(values, tuple):
            # Copy, because torch does not accept arrays with negative strides.
            return tuple(torch.from_numpy(value.copy()) for value in values)
        return float(values)


class ROC_AUC(_Curve):  # noqa: N801 - ignite's name
    """Compute the area under the receiver operating characteristic curve (``sklearn.metrics.roc_auc_score``).

    After ``output_transform``, the output must be ``(y_pred, y)`` or a mapping with the keys ``y_pred`` and ``y``. ``y_pred``
    contains scores, and ``y`` contains the labels 0 and 1. Both tensors have the shape (N,) for one label, or (N, C) for the
    average over C labels. The metric stores all outputs of the epoch; see :class:`EpochMetric`.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``, for example by converting logits to probabilities.
        check_compute_fn: Whether to call the scikit-learn function on the first batch after each reset, and to warn if the call
            fails. Defaults to ``False``.
        device: Device of the stored outputs. Defaults to the CPU; with outputs on an accelerator, each update then waits for the
            accelerator. See :class:`EpochMetric`.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed. To install it, run ``pip install "glowplug-metrics[sklearn]"``.
        TypeError: If ``y_pred`` or ``y`` is not a tensor.
        ValueError: If the shapes do not match, or if the dtype or C changes between updates.

    Example:
        >>> import torch
        >>> metric = ROC_AUC()
        >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
        >>> metric.compute()
        0.75
    """

    _function = "roc_auc_score"


class AveragePrecision(_Curve):
    """Compute the average precision (``sklearn.metrics.average_precision_score``).

    This metric accepts the same outputs and arguments and raises the same exceptions as :class:`ROC_AUC`.

    Example:
        >>> import torch
        >>> metric = AveragePrecision()
        >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
        >>> round(metric.compute(), 3)
        0.833
    """

    _function = "average_precision_score"


class RocCurve(_Curve):
    """Compute the receiver operating characteristic curve (``sklearn.metrics.roc_curve``).

    The value of the metric is a tuple of three tensors: false positive rates, true positive rates, and thresholds. The first
    threshold is infinite. The arguments and exceptions are the same as for :class:`ROC_AUC`. The outputs must have the
    same form as for :class:`ROC_AUC`, except that each example has only one label.

    Example:
        >>> import torch
        >>> metric = RocCurve()
        >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
        >>> false, true, thresholds = metric.compute()
        >>> true.tolist()
        [0.0, 0.5, 0.5, 1.0, 1.0]
    """

    _function = "roc_curve"


class PrecisionRecallCurve(_Curve):
    """Compute the precision-recall curve (``sklearn.metrics.precision_recall_curve``).

    The value of the metric is a tuple of three tensors: precisions, recalls and thresholds. The tensor of thresholds has one
    element fewer than the other two tensors. The arguments and exceptions are the same as for :class:`ROC_AUC`. The outputs must
    have the same form as for :class:`ROC_AUC`, except that each example has only one label.

    Example:
        >>> import torch
        >>> metric = PrecisionRecallCurve()
        >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
        >>> precisions, recalls, thresholds = metric.compute()
        >>> recalls.tolist()
        [1.0, 1.0, 0.5, 0.5, 0.0]
    """

    _function = "precision_recall_curve"


def _function_of_sklearn(metric: str, name: str) -> Callable[..., Any]:
    try:
        function: Callable[..., Any] = getattr(importlib.import_module("sklearn.metrics"), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{metric} needs scikit-learn: pip install 'glowplug-metrics[sklearn]'",
            name=error.name,
        ) from error
    return function
