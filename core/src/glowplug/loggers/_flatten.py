"""Flattening of nested values into names and numbers."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from glowplug.loggers._snapshot import HostCopy, HostCopyItem, is_a, is_array, is_distributed, on_device

NUMBERS = frozenset({float, int, bool})


def number_of(value: Any) -> float | None:
    """Convert a scalar CPU tensor to a float; return a float unchanged, and ``None`` for any other value.

    Nearly all logged values are floats or scalar tensors, and for these, :func:`flatten` is several times slower.
    """
    kind = value.__class__
    if kind is float:
        return value  # type: ignore[no-any-return]  # the class was checked
    if kind.__name__ == "Tensor" and getattr(value, "is_cpu", False) and not value.ndim:
        number = value.item()
        if number.__class__ is float:
            return number
        if number.__class__ in NUMBERS:
            return float(number)  # type: ignore[arg-type]  # the class was checked
    return None


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
    elif is_array(value) and value.ndim <= 1 and not is_distributed(value):
        yield from _array(name, value, separator)
    else:
        from glowplug.plugins import to_scalar

        number = to_scalar(value)
        yield name, value if number is None else number


def _array(name: str, value: Any, separator: str) -> Iterator[tuple[str, Any]]:
    if is_a(value, "torch.distributed.tensor", "DTensor"):
        # Each rank has all values, but a DTensor has no tolist().
        value = value.to_local()
    if on_device(value) and value.is_complex():
        yield name, value
    elif on_device(value):
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


def checked_scalars(scalars: Any, logger: type) -> dict[str, Any]:
    """Validate the argument of ``log_scalars``, and return a copy in which tensors and arrays are replaced by their numbers.

    Args:
        scalars: Mapping of names to numbers.
        logger: Class of the logger, whose name appears in error messages.

    Raises:
        TypeError: If ``scalars`` is not a mapping of strings to numbers.
    """
    if scalars.__class__ is dict:
        for name, value in scalars.items():
            if name.__class__ is not str or value.__class__ not in NUMBERS:
                break
        else:
            return scalars.copy()
    elif not isinstance(scalars, Mapping):
        raise TypeError(
            f"{logger.__name__}.log_scalars: scalars must be a mapping of names to numbers, got {scalars!r}"
        )
    checked = {}
    for name, value in scalars.items():
        if not isinstance(name, str):
            raise TypeError(f"{logger.__name__}.log_scalars: names must be strings, got {name!r}")
        number = value if value.__class__ in NUMBERS else number_of(value)
        checked[name] = _checked_number(name, value, logger) if number is None else number
    return checked


def _checked_number(name: str, value: Any, logger: type) -> Any:
    leaves = list(flatten("", value))
    if len(leaves) == 1 and leaves[0][0] == "" and leaves[0][1].__class__ in (float, HostCopyItem):
        return leaves[0][1]
    raise TypeError(f"{logger.__name__}.log_scalars: {name!r} must be a number, got {shortened(value)}")


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
    if is_distributed(value):
        return (
            f"a DTensor of shape {tuple(shape or ())} with values of this rank alone (pass value.full_tensor(), which must be "
            "called on all ranks)"
        )
    if shape is not None:
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    return f"{reprlib.repr(value)} of type {type(value).__name__}"
