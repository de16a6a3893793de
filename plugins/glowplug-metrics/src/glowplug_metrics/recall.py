"""Recall: the fraction of each class's examples that are predicted correctly."""

from __future__ import annotations

from glowplug_metrics.class_ratio import ClassRatio
from glowplug_metrics.counting import ACTUAL

__all__ = ["Recall"]


class Recall(ClassRatio):
    """Fraction of each class's examples that are predicted correctly, for binary, multiclass or multilabel data.

    A class without examples has recall 0. The engine's output must have the form described for
    :class:`~glowplug_metrics.precision.Precision`.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``, for example with probabilities rounded to 0 and 1.
        average: How to combine the values of the classes. ``False`` returns a tensor of shape (C,) with the value of each class.
            For binary data, ``False`` returns only the value of class 1. ``None`` returns a tensor of shape (C,) for all kinds of
            data; for binary data, C is 2. ``True`` or ``"macro"`` returns the mean over the classes. ``"weighted"`` returns
            the mean weighted by the number of examples of each class. ``"micro"`` adds up the counts of all classes before
            computing the ratio. ``"samples"`` returns the mean over the examples and requires multilabel data.
        is_multilabel: Whether each example has C labels, which are 0 or 1.
        device: See ``glowplug.Metric``. The counts stay on the device of the data, so that updates never wait for an accelerator.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: If ``y_pred`` or ``y`` is not a tensor.
        ValueError: If ``average`` is unknown, if ``"samples"`` is used without multilabel data, if shapes do not match, if the
            number of classes changes, or if the data contains invalid values. Binary and multilabel values must be 0 or 1, and
            multiclass targets must be from 0 to C - 1. Values on an accelerator are checked only in ``compute``, because
            checking each batch would wait for the accelerator.
        RuntimeError: If the kind of data changes without a reset.

    Example:
        >>> import torch
        >>> recall = Recall()
        >>> recall.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> recall.compute()
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    _row = ACTUAL
