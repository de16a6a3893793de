"""Precision: the fraction of predictions that are correct."""

from __future__ import annotations

from glowplug_metrics.class_ratio import ClassRatio
from glowplug_metrics.counting import PREDICTED

__all__ = ["Precision"]


class Precision(ClassRatio):
    """The fraction of correct predictions per class: binary, multiclass or multilabel.

    The output is ``(y_pred, y)``, or a mapping with these keys. Their shapes decide: y_pred (N, C, ...) and y (N, ...) is
    multiclass, with scores; the same shape, or (N, 1, ...) for y_pred, is binary, with values 0 and 1;
    ``is_multilabel=True`` takes (N, C, ...) for both, with values 0 and 1. A class that was never
    predicted has precision 0.

    At one engine or in one group, it shares its counts with Recall, Fbeta and others.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``, for example with probabilities rounded to 0 and 1.
        average: ``False``: none, a tensor of shape (C,), for binary data the number of class 1. ``None``: none, for binary
            data both classes. ``True`` or ``"macro"``: the mean over the classes. ``"weighted"``: the same, weighted by how
            often each class is there. ``"micro"``: the share over all classes together. ``"samples"``: the mean over the
            examples of multilabel data.
        is_multilabel: Whether each example has C labels.
        device: See ``glowplug.Metric``. The counts stay on the device of the data, so no update waits for it.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: At an update: not tensors.
        ValueError: If ``average`` is unknown. At an update: mismatched shapes, a changed number of classes,
            binary values other than 0 and 1, targets that are no class (such values of data on an accelerator at
            ``compute``, since looking at each batch would wait for it), or ``"samples"`` without multilabel data.
        RuntimeError: At an update: a changed kind of data.

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
