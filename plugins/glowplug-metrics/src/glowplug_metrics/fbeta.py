"""Fbeta and F1: weighted harmonic means of precision and recall."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from glowplug import MetricsLambda, identity
from glowplug_metrics.matrix_figures import ratio
from glowplug_metrics.precision import Precision
from glowplug_metrics.recall import Recall

__all__ = ["F1", "Fbeta", "checked_beta", "f_score"]


def f_score(precision: torch.Tensor, recall: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    """Return ``(1 + beta**2) * precision * recall / (beta**2 * precision + recall)``, or 0 where the denominator is 0.

    Args:
        precision: Tensor of any shape.
        recall: Tensor of the same shape as ``precision``.
        beta: Weight of recall relative to precision.

    Example:
        >>> f_score(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.0]))
        tensor([0.6667, 0.0000])
    """
    weight = beta * beta
    return ratio((1 + weight) * precision * recall, weight * precision + recall)


def checked_beta(beta: float) -> float:
    """Return ``beta`` if it is valid.

    Raises:
        ValueError: If ``beta`` is not a finite number above 0.

    Example:
        >>> checked_beta(2)
        2
    """
    if not (beta > 0 and math.isfinite(beta)):
        raise ValueError(f"beta must be a finite number above 0, got {beta!r}")
    return beta


class Fbeta(MetricsLambda):
    """Compute the harmonic mean of precision and recall, with recall weighted by ``beta``.

    Args:
        beta: Weight of recall relative to precision, a number above 0. The F1 score has ``beta=1``.
        average: If ``True`` (default), the value is the mean over the classes. If ``False``, the value is a tensor of shape (C,)
            or, if only class 1 of binary data is scored, a scalar tensor.
        precision: A Precision to use instead of a new one; it keeps its own ``output_transform``. Create the Precision with
            ``average=False`` or ``average=None``. For binary data, ``average=False`` scores only class 1, and
            ``average=None`` scores both classes. By default, a new Precision with ``average=False`` is used.
        recall: A Recall to use instead of a new one, under the same conditions as ``precision``. For binary data, both must have the
            same ``average``.
        output_transform: Turns the engine's output into ``(y_pred, y)``. If ``precision`` or ``recall`` is given,
            ``output_transform`` must be omitted.
        device: See :class:`glowplug.Metric`. If ``precision`` or ``recall`` is given, ``device`` must be omitted.

    Raises:
        ValueError: If ``beta`` is not a finite number above 0, or if the ``average`` of ``precision`` or ``recall`` is neither
            ``False`` nor ``None``. Also raised if ``output_transform`` or ``device`` is combined with ``precision`` or
            ``recall``.
        TypeError: If ``precision`` is not a Precision, or ``recall`` is not a Recall.

    Example:
        >>> import torch
        >>> f2 = Fbeta(beta=2.0)
        >>> f2.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> round(f2.compute(), 4)
        0.6944
    """

    def __init__(
        self,
        beta: float,
        average: bool = True,
        precision: Precision | None = None,
        recall: Recall | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        checked_beta(beta)
        _check_part("precision", precision, Precision)
        _check_part("recall", recall, Recall)
        for name, given in (("output_transform", output_transform), ("device", device)):
            if given is not None and (precision is not None or recall is not None):
                raise ValueError(
                    f"{name} cannot be combined with precision or recall; pass {name} to Precision and Recall instead"
                )
        transform = output_transform or identity
        initial_device = "cpu" if device is None else device
        super().__init__(
            _Score(beta, average),
            precision if precision is not None else Precision(transform, device=initial_device),
            recall if recall is not None else Recall(transform, device=initial_device),
        )


class F1(Fbeta):
    """Compute the harmonic mean of precision and recall: :class:`Fbeta` with ``beta=1``.

    Args:
        average: See :class:`Fbeta`.
        precision: See :class:`Fbeta`.
        recall: See :class:`Fbeta`.
        output_transform: See :class:`Fbeta`.
        device: See :class:`Fbeta`.

    Example:
        >>> import torch
        >>> f1 = F1(average=False)
        >>> f1.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> f1.compute()
        tensor([0.6667, 0.6667], dtype=torch.float64)
    """

    def __init__(
        self,
        average: bool = True,
        precision: Precision | None = None,
        recall: Recall | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(1.0, average, precision, recall, output_transform, device)


class _Score:
    """Picklable function that computes the score from precision and recall."""

    def __init__(self, beta: float, average: bool) -> None:
        self.beta = beta
        self.average = average

    def __call__(self, precision: torch.Tensor, recall: torch.Tensor) -> torch.Tensor | float:
        score = f_score(precision, recall, self.beta)
        return score.mean().item() if self.average else score


def _check_part(name: str, part: object, kind: type[Precision | Recall]) -> None:
    if part is None:
        return
    if not isinstance(part, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {part!r}")
    if part.average not in {False, None}:
        raise ValueError(f"{name} must have average=False or None, got average={part.average!r}")
