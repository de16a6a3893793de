"""Number of examples in a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch.nn.utils.rnn import PackedSequence

__all__ = ["batch_size_of"]


def batch_size_of(y: Any) -> int:
    """Return the number of examples in a target, which is the length of the target's first tensor.

    Args:
        y: A tensor or array of shape (N, ...), or a collection (mapping, tuple or list) of targets. A collection can contain, for
            example, one target per head of a model. A list of mappings must contain one mapping per example, as in object
            detection.

    Raises:
        TypeError: If the target contains no tensor, or if the target is a ``PackedSequence``.
        ValueError: If the first tensor has no dimension, or if the tensors of a tuple or list have different lengths.

    Example:
        >>> batch_size_of({"class": torch.zeros(4), "box": torch.zeros(4, 2)})
        4
    """
    if isinstance(y, torch.Tensor) and y.dim():
        return y.size(0)
    first = _first_countable(y)
    if first is None:
        _refuse(TypeError, f"a value of type {type(y).__name__} without tensors")
    size = _size_of(first)
    if size is None:
        _refuse(ValueError, "a tensor without dimensions")
    return size


def _first_countable(value: Any) -> Any:
    """Return the first tensor, array or list of examples in a target, or ``None`` if there is none."""
    if isinstance(value, PackedSequence):
        _refuse(TypeError, "a PackedSequence, whose first dimension counts time steps, not examples")
    if isinstance(value, torch.Tensor) or hasattr(value, "shape") or _is_list_of_examples(value):
        return value
    if isinstance(value, Mapping):
        return next((found for part in value.values() if (found := _first_countable(part)) is not None), None)
    if not isinstance(value, (tuple, list)):
        return None
    parts = [found for part in value if (found := _first_countable(part)) is not None]
    sizes = sorted({size for part in parts if (size := _size_of(part)) is not None})
    if len(sizes) > 1:
        _refuse(
            ValueError, f"a {type(value).__name__} of tensors whose first dimensions have the sizes {sizes}"
        )
    return parts[0] if parts else None


def _size_of(countable: Any) -> int | None:
    """Return the size of a value's first dimension, or ``None`` if the value has no dimensions."""
    if isinstance(countable, torch.Tensor):
        return countable.size(0) if countable.dim() else None
    if isinstance(countable, list):
        return len(countable)
    return int(countable.shape[0]) if countable.shape else None


def _is_list_of_examples(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, Mapping) for part in value)


def _refuse(kind: type[Exception], found: str) -> NoReturn:
    raise kind(
        f"cannot determine the batch size from the target y, because y is {found}. Pass a function of y as batch_size, such as "
        "batch_size=lambda y: len(y['labels'])"
    )
