"""Recall: the fraction of each class's examples that are predicted as this class."""

from __future__ import annotations

from glowplug_metrics.class_ratio import ClassRatio
from glowplug_metrics.counting import ACTUAL

__all__ = ["Recall"]


class Recall(ClassRatio):
    """Fraction of each class's examples that are predicted as this class, for binary, multiclass or multilabel data.

    A class without targets has recall 0. The engine's output must have the form described for
    :class:`~glowplug_metrics.precision.Precision`.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``, for example with probabilities rounded to 0 and 1.
        average: ``False``: a tensor of shape (C,); for binary data, the value of class 1. ``None``: the same, except that for
            binary data it contains the values of both classes. ``True`` or ``"macro"``: mean over the classes.
            ``"weighted"``: mean weighted by the number of examples of each class. ``"micro"``: ratio computed from the counts
            summed over all classes. ``"samples"``: mean over the examples of multilabel data.
        is_multilabel: Whether each example has C labels, which are 0 or 1.
        device: See ``glowplug.Metric``. The counts stay on the device of the data, so that no update waits for the device.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: If ``y_pred`` or ``y`` is not a tensor.
        ValueError: If ``average`` is unknown, if ``"samples"`` is used without multilabel data, if shapes do not match, if the
            number of classes changes, if binary or multilabel values are not 0 or 1, or if targets are not valid classes.
            Values on an accelerator are checked in ``compute``, because checking each batch would wait for the device.
        RuntimeError: If the kind of data changes.

    Example:
        >>> import torch
        >>> recall = Recall()
        >>> recall.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> recall.compute()
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    _row = ACTUAL
