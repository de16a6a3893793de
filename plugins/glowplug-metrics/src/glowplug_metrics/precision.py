"""Precision: the fraction of predictions that are correct."""

from __future__ import annotations

from glowplug_metrics.class_ratio import ClassRatio
from glowplug_metrics.counting import PREDICTED

__all__ = ["Precision"]


class Precision(ClassRatio):
    """Compute the fraction of each class's predictions that are correct, for binary, multiclass or multilabel data.

    The output is ``(y_pred, y)``, or a mapping with the keys ``y_pred`` and ``y``. The argument ``is_multilabel`` and the shapes
    of ``y_pred`` and ``y`` determine the kind of data:

    - Multiclass: ``y_pred`` contains scores of shape (N, C, ...), and ``y`` contains class indices of shape (N, ...).
    - Binary: ``y_pred`` and ``y`` have the shape (N, ...) and contain only 0 and 1. ``y_pred`` can also have the shape
      (N, 1, ...).
    - Multilabel, with ``is_multilabel=True``: ``y_pred`` and ``y`` have the shape (N, C, ...) and contain only 0 and 1.

    A class that is never predicted has precision 0.

    Classification metrics on one engine or in one group share statistics if their ``output_transform`` is the same: statistics
    that several metrics need are computed only once per batch.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``, for example with probabilities rounded to 0 and 1.
        average: How to combine the values of the classes:

            - ``False`` (default): the value of each class, a tensor of shape (C,); for binary data, only the value of class 1.
            - ``None``: the value of each class, a tensor of shape (C,); for binary data, C is 2.
            - ``True`` or ``"macro"``: the mean over the classes.
            - ``"weighted"``: the mean over the classes, weighted by the number of examples of each class.
            - ``"micro"``: the ratio computed from the summed counts of all classes.
            - ``"samples"``: the mean over the examples; requires multilabel data.
        is_multilabel: Whether each example has C labels, each of which is 0 or 1. Defaults to ``False``.
        device: See :class:`glowplug.Metric`. The counts stay on the device of the data, so that updates never wait for an
            accelerator.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        TypeError: If ``y_pred`` or ``y`` is not a tensor.
        ValueError: If ``average`` is unknown, if ``"samples"`` is used without multilabel data, if shapes do not match, if the
            number of classes changes, or if the data contains invalid values. Binary and multilabel values must be 0 or 1, and
            multiclass targets must be from 0 to C - 1. Values on an accelerator are checked only in ``compute``, because
            checking each batch would wait for the accelerator.
        RuntimeError: If the kind of data changes without a reset.

    Example:
        >>> import torch
        >>> precision = Precision()
        >>> precision.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> precision.compute()
        tensor([1.0000, 0.5000], dtype=torch.float64)
        >>> macro = Precision(average=True)
        >>> macro.update((torch.tensor([1, 0, 1]), torch.tensor([1, 0, 0])))
        >>> macro.compute()
        0.75
    """

    _row = PREDICTED
