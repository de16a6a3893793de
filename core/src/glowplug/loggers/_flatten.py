"""Flattening of nested values to names and numbers."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from numbers import Real
from typing import Any

from glowplug.loggers._snapshot import Deferred, DeferredItem, is_a, on_device

ARRAYS = (("torch", "Tensor"), ("numpy", "ndarray"), ("numpy", "generic"))


def flatten_params(params: Mapping[Any, Any]) -> dict[str, Any]:
    """Return nested hyper-parameters as one dict, in which ``{"optimizer": {"lr": 0.1}}`` is ``optimizer/lr``.

    Args:
        params: hyper-parameters; what is no mapping is kept as it is.

    Example:
        >>> flatten_params({"optimizer": {"name": "SGD", "lr": 0.1}, "seed": 7})
        {'optimizer/name': 'SGD', 'optimizer/lr': 0.1, 'seed': 7}
    """
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}/{key}": item for key, item in flatten_params(value).items()})
        else:
            flat[str(name)] = value
    return flat


class Flattened:
    """Flattens nested values to ``name: number`` and ``name: text`` (L-025).

    Mappings give ``key/sub``; lists, tuples and one-dimensional tensors and arrays ``key/0``, ``key/1``...; what is
    neither a number nor one of these is left out and listed in ``unknown``.

    Example:
        >>> flat = Flattened()
        >>> flat.add("training", {"loss": 0.5, "f1": [0.25, 0.75]})
        >>> flat.scalars
        {'training/loss': 0.5, 'training/f1/0': 0.25, 'training/f1/1': 0.75}
    """

    def __init__(self) -> None:
        self.scalars: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self.unknown: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        """Add a value under a name."""
        if value.__class__ is float:
            self.scalars[name] = value
        elif isinstance(value, str):
            self.texts[name] = value
        elif isinstance(value, Real):
            self.add_number(name, value)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self.add(f"{name}/{key}", item)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self.add(f"{name}/{index}", item)
        elif not self._add_array(name, value):
            number = _number_from_plugins(value)
            if number is None:
                self.unknown[name] = value
            else:
                self.scalars[name] = number

    def _add_array(self, name: str, value: Any) -> bool:
        if not any(is_a(value, *kind) for kind in ARRAYS):
            return False
        if value.ndim > 1:
            return False
        if on_device(value):
            deferred = Deferred(value.detach())
            items: Any = [DeferredItem(deferred, i) for i in range(len(value))] if value.ndim else None
            item: Any = DeferredItem(deferred, None)
        else:
            items = value.tolist() if value.ndim else None
            item = None if value.ndim else value.item()
        if items is None:
            self.add_number(name, item)
        else:
            for index, number in enumerate(items):
                self.add_number(f"{name}/{index}", number)
        return True

    def add_number(self, name: str, number: Any) -> None:
        """Add what is a number already, or will be one on the worker's thread."""
        try:
            self.scalars[name] = number if isinstance(number, DeferredItem) else float(number)
        except (TypeError, ValueError, OverflowError):  # complex, an object, an integer beyond all floats
            self.unknown[name] = number


def shortened(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    return f"{reprlib.repr(value)} of {type(value).__name__}"


def _number_from_plugins(value: Any) -> float | None:
    if value is None:
        return None
    from glowplug.plugins import to_scalar

    return to_scalar(value)
