"""Copies of small plain values, which an engine's state may contain."""

from __future__ import annotations

import sys
from typing import Any

_MOST_BYTES = 1 << 20

_SCALARS = (type(None), bool, int, float, str)


class NotPlainError(ValueError):
    """A value cannot be part of an engine's state; the message is the reason."""


def plain_copy(value: Any) -> Any:
    """Copy numbers, texts, tensors, and dicts, lists and tuples of these.

    ``torch.load(weights_only=True)`` can load the result. Scalars of numpy become Python numbers.

    Raises:
        NotPlainError: If the value contains an object of another type, or takes more than 1 MiB.

    Example:
        >>> plain_copy({"loss": [0.5, "text"]})
        {'loss': [0.5, 'text']}
    """
    size = _size(value)
    if size > _MOST_BYTES:
        raise NotPlainError(f"it takes {size} bytes")
    return _copied(value)


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind in (list, tuple):
        return kind(map(_copied, value))
    if _is_tensor(value):
        return value.detach().clone()
    return value if kind in _SCALARS else value.item()


def _size(value: Any) -> int:
    """Return the number of bytes of all tensors and texts, after checking that the value is plain."""
    kind = type(value)
    if kind is dict:
        return sum(_size(key) + _size(item) for key, item in value.items())
    if kind in (list, tuple):
        return sum(map(_size, value))
    if kind in _SCALARS:
        return len(value) if kind is str else 8
    if _is_tensor(value):
        return int(value.numel() * value.element_size())
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and type(value.item()) in _SCALARS:
        return 8
    raise NotPlainError(f"it contains an object of type {kind.__name__}")


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and type(value) is torch.Tensor and value.layout is torch.strided
