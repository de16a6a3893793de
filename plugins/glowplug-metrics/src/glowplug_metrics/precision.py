"""Precision: of what was predicted, how much is right."""

from __future__ import annotations

from glowplug_metrics.class_ratio import ClassRatio
from glowplug_metrics.counting import PREDICTED

__all__ = ["Precision"]


class Precision(ClassRatio):
    """The share of right ones among the predictions of each class: binary, multiclass or multilabel.

    The output is ``(y_pred, y)``, or a mapping with these keys. Their shapes decide: y_pred (N, C, ...) and y (N, ...) is
    multiclass, with scores; the same shape, or (N, 1, ...) for y_pred, is binary, with values 0 and 1;
    ``is_multilabel=True`` takes (N, C, ...) for both, with values 0 and 1. A class that was never predicted has the
    precision 0.

    Attached beside Recall, Fbeta and others to one engine, or in one group, it shares their counting.

    Args:
        output_transform: Makes ``(y_pred, y)`` of the engine's output. Probabilities are made binary here.
        average: ``False``: none, a tensor of shape (C,), for binary data the number of class 1. ``None``: none, for binary
            data both classes. ``True`` or ``"macro"``: the mean over the classes. ``"weighted"``: the same, weighted by how
            often each class is there. ``"micro"``: the share over all classes together. ``"samples"``: the mean over the
            examples of multilabel data.
        is_multilabel: Whether each example has C labels.
        device: See ``glowplug.Metric``. The counts stay on the device of the data, and no update waits for it.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: At an update: not tensors.
        ValueError: Another ``average``. At an update: shapes that do not go together, another number of classes than before,
            binary values other than 0 and 1, targets that are no class (such values of data on an accelerator at
            ``compute``, since looking at each batch would wait for it), or ``"samples"`` without multilabel data.
        RuntimeError: At an update: another kind of data than before.

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
