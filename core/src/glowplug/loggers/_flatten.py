"""Flattening of nested values into names and numbers."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from glowplug.loggers._snapshot import HostCopy, HostCopyItem, is_array, on_device

NUMBERS = frozenset({float, int, bool})
TEXTS = frozenset({str})


def flatten(name: str, value: Any, separator: str = "/") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a nested value with their names.

    The items of a mapping get names such as ``name/key``. The items of a list, a tuple or a one-dimensional tensor or array
    are named ``name/0``, ``name/1`` and so on. Numbers become ``float``. A number on an accelerator becomes an object that
    copies the number to the host asynchronously; ``float()`` of this object waits for the copy. All other leaves are unchanged,
    unless a plugin's ``glowplug_to_scalar`` hook converts them.

    Args:
        name: Name of the value.
        value: Any value.
        separator: Text between the parts of a name. Defaults to ``"/"``.

    Example:
        >>> list(flatten("training", {"loss": 1, "f1": [0.25, 0.75]}))
        [('training/loss', 1.0), ('training/f1/0', 0.25), ('training/f1/1', 0.75)]
    """
    if value.__class__ is float or value is None or isinstance(value, (str, HostCopyItem)):
        yield name, value
    elif isinstance(value, Real):
        yield name, _number(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(f"{name}{separator}{key}", item, separator)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(f"{name}{separator}{index}", item, separator)
    elif is_array(value) and value.ndim <= 1:
        yield from _array(name, value, separator)
    else:
        from glowplug.plugins import to_scalar

        number = to_scalar(value)
        yield name, value if number is None else number


def _array(name: str, value: Any, separator: str) -> Iterator[tuple[str, Any]]:
    if on_device(value):
        copied = HostCopy(value.detach())
        if value.ndim == 0:
            yield name, HostCopyItem(copied, None)
        for index in range(len(value) if value.ndim else 0):
            yield f"{name}{separator}{index}", HostCopyItem(copied, index)
    elif value.ndim == 0:
        number = _number(value.item())
        yield name, number if number.__class__ is float else value
    else:
        for index, item in enumerate(value.tolist()):
            yield f"{name}{separator}{index}", _number(item)


def _number(value: Any) -> Any:
    """Convert a value to a float; return it unchanged if that fails."""
    try:
        return value if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return value


class Flattened:
    """Flattened values, grouped by kind.

    Attributes:
        scalars: Mapping of names to numbers.
        texts: Mapping of names to strings.
        unknown: Mapping of names to all other leaves.

    Example:
        >>> flat = Flattened()
        >>> flat.add("training", {"loss": 0.5, "note": "warm-up", "image": None})
        >>> flat.scalars, flat.texts, flat.unknown
        ({'training/loss': 0.5}, {'training/note': 'warm-up'}, {'training/image': None})
    """

    def __init__(self) -> None:
        self.scalars: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self.unknown: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        """Flatten a value and add its leaves.

        Args:
            name: Name of the value.
            value: Any value.
        """
        for leaf, item in flatten(name, value):
            if item.__class__ is float or item.__class__ is HostCopyItem:
                self.scalars[leaf] = item
            elif isinstance(item, str):
                self.texts[leaf] = item
            else:
                self.unknown[leaf] = item


def checked_scalars(scalars: Any, method: str) -> dict[str, Any]:
    """Validate the mapping passed to ``log_scalars``, and return a copy in which each value is a number.

    Args:
        scalars: Mapping of names to numbers.
        method: Name of the method in error messages, such as ``"AcmeLogger.log_scalars"``.

    Raises:
        TypeError: If ``scalars`` is not a mapping of strings to numbers.
    """
    if scalars.__class__ is dict and NUMBERS.issuperset(map(type, scalars.values())):
        checked: dict[Any, Any] = scalars.copy()
    elif isinstance(scalars, Mapping):
        checked = {name: _checked_number(name, value, method) for name, value in scalars.items()}
    else:
        raise TypeError(f"{method}: scalars must be a mapping of names to numbers, got {scalars!r}")
    if not TEXTS.issuperset(map(type, checked)):
        odd = next((name for name in checked if not isinstance(name, str)), None)
        if odd is not None:
            raise TypeError(f"{method}: names must be strings, got {odd!r}")
    return checked


def _checked_number(name: Any, value: Any, method: str) -> Any:
    if value.__class__ in NUMBERS:
        return value
    leaves = list(flatten("", value))
    if len(leaves) == 1 and leaves[0][0] == "" and leaves[0][1].__class__ in (float, HostCopyItem):
        return leaves[0][1]
    raise TypeError(f"{method}: {name!r} must be a number, got {shortened(value)}")


def flatten_params(params: Mapping[Any, Any]) -> dict[str, Any]:
    """Return nested hyperparameters as a flat dict.

    Args:
        params: Hyperparameters; only nested mappings are flattened.

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


def shortened(value: Any) -> str:
    """Return a short description of a value for messages."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    return f"{reprlib.repr(value)} of type {type(value).__name__}"
