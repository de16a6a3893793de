"""Recall: the fraction of targets that were predicted."""

from __future__ import annotations

from glowplug_metrics.class_ratio import ClassRatio
from glowplug_metrics.counting import ACTUAL

__all__ = ["Recall"]


class Recall(ClassRatio):
    """The fraction of targets per class that were predicted: binary, multiclass or multilabel.

    A class without targets has recall 0. Otherwise as :class:`~glowplug_metrics.precision.Precision`.

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
        >>> recall = Recall()
        >>> recall.update((torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([1, 0, 0])))
        >>> recall.compute()
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    _row = ACTUAL
