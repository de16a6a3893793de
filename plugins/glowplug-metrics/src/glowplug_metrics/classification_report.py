"""ClassificationReport: precision, recall and F-score of each class."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch

from glowplug import MetricsLambda, identity
from glowplug_metrics.fbeta import checked_beta, f_score
from glowplug_metrics.precision import Precision
from glowplug_metrics.recall import Recall

__all__ = ["ClassificationReport", "Report", "report_of"]

Report: TypeAlias = dict[str, dict[str, float]]


def report_of(
    precision: torch.Tensor, recall: torch.Tensor, beta: float = 1.0, labels: Sequence[str] | None = None
) -> Report:
    """Return the scores of each class and, under the key ``"macro avg"``, their means over the classes.

    Args:
        precision: Precision of each class, a tensor of shape (C,).
        recall: Recall of each class, a tensor of shape (C,).
        beta: See :func:`f_score`.
        labels: Names of the classes. Defaults to the class indices.

    Raises:
        ValueError: If the number of labels differs from the number of classes, if labels are not unique, or if a label is
            ``"macro avg"``.

    Example:
        >>> report_of(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.0]), labels=["cat", "dog"])["cat"]
        {'precision': 1.0, 'recall': 0.5, 'f1-score': 0.6666666865348816}
    """
    names = [str(number) for number in range(len(precision))] if labels is None else list(labels)
    if len(names) != len(precision) or len({*names, "macro avg"}) <= len(names):
        raise ValueError(
            f"labels must be {len(precision)} unique names, one per class, and must not include 'macro avg'; got {names}"
        )
    columns = {"precision": precision, "recall": recall, f"f{beta:g}-score": f_score(precision, recall, beta)}
    report = {
        name: {column: values[i].item() for column, values in columns.items()} for i, name in enumerate(names)
    }
    report["macro avg"] = {column: values.mean().item() for column, values in columns.items()}
    return report


class ClassificationReport(MetricsLambda):
    """Report the precision, recall and F-score of each class, and their means over the classes.

    Args:
        beta: Weight of recall relative to precision in the F-score, a number above 0. Defaults to 1.
        output_dict: If ``True``, the value is a dict such as ``{"cat": {"precision": ..., "recall": ..., "f1-score": ...}, ...,
            "macro avg": {...}}``. If ``False`` (default), the value is the same report as JSON text.
        output_transform: Turns the engine's output into ``(y_pred, y)``, as for
            :class:`Precision`.
        device: See :class:`glowplug.Metric`.
        is_multilabel: Whether each example has C labels, each of which is 0 or 1. Defaults to ``False``.
        labels: Names of the classes. Defaults to the class indices. Binary data has the two classes 0 and 1.
        metrics_result_mode: See :class:`glowplug.Metric`.

    Raises:
        ValueError: If ``beta`` is not a finite number above 0. ``compute`` also raises this error if the number of labels differs
            from the number of classes, if labels are not unique, or if a label is ``"macro avg"``.

    Example:
        >>> import torch
        >>> report = ClassificationReport(output_dict=True, labels=["cat", "dog"])
        >>> report.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> report.compute()["dog"]
        {'precision': 0.5, 'recall': 1.0, 'f1-score': 0.6666666666666666}
    """

    def __init__(
        self,
        beta: float = 1,
        output_dict: bool = False,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        is_multilabel: bool = False,
        labels: Sequence[str] | None = None,
        metrics_result_mode: Literal["flatten", "named", "both"] = "both",
    ) -> None:
        super().__init__(
            _Reporter(checked_beta(beta), output_dict, labels),
            Precision(output_transform, None, is_multilabel, device),
            Recall(output_transform, None, is_multilabel, device),
            metrics_result_mode=metrics_result_mode,
        )


class _Reporter:
    """Picklable function object that builds the report."""

    def __init__(self, beta: float, output_dict: bool, labels: Sequence[str] | None) -> None:
        self.beta = beta
        self.output_dict = output_dict
        self.labels = labels

    def __call__(self, precision: torch.Tensor, recall: torch.Tensor) -> Report | str:
        report = report_of(precision, recall, self.beta, self.labels)
        return report if self.output_dict else json.dumps(report)
