"""Which leaves of a nested output are not finite numbers."""

from __future__ import annotations

import cmath
import dataclasses
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from itertools import repeat
from numbers import Number, Rational
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# The most frequent leaves, and the sequences that hold no measured number.
_LEAVES = (float, int, type(None), str, bytes, bytearray, memoryview, range)

_SINGLE = 4  # bytes of a float32; sums of smaller formats would overflow early


class Attribute(str):
    """A step of a path that is an attribute's name; every other step is a key or an index."""

    __slots__ = ()


Path = tuple[object, ...]


def find_non_finite(output: object) -> tuple[Path, Any] | None:
    """Return the path and the value of a leaf that is NaN or infinite, ``None`` where all are finite.

    Looked at are numbers, numpy scalars and arrays, and dense tensors, in mappings, sequences, sets, named tuples and
    dataclasses. Anything else is taken as finite. The results of all tensors are read at once: one wait per device.

    Args:
        output: the tree, or a single leaf.

    Returns:
        The first such leaf in the order of the tree, those that are no tensors first; a path is a tuple of keys,
        indices and attributes.

    Example:
        >>> find_non_finite({"loss": [0.5, float("nan")]})
        (('loss', 1), nan)
        >>> find_non_finite({"loss": [0.5, None]}) is None
        True
    """
    tensors: dict[torch.device, list[tuple[Path, torch.Tensor]]] = {}
    for path, leaf in _leaves(output):
        if _is_a(leaf, "torch", "Tensor"):
            tensor = _checkable(leaf)
            if tensor is not None:
                tensors.setdefault(tensor.device, []).append((path, tensor))
        elif not _is_finite(leaf):
            return path, leaf
    for group in tensors.values():
        found = _first_non_finite_tensor(group)
        if found is not None:
            return found
    return None


def describe(path: Path, value: Any) -> str:
    """Return a sentence part that says where a leaf is, and what is wrong with it.

    Example:
        >>> describe(("loss", 1), float("nan"))
        "output['loss'][1] is nan"
    """
    where = "output" + "".join(f".{step}" if isinstance(step, Attribute) else f"[{step!r}]" for step in path)
    if getattr(value, "ndim", 0) == 0:
        return f"{where} is {value}"
    library = sys.modules["torch" if _is_a(value, "torch", "Tensor") else "numpy"]
    positions = library.argwhere(~library.isfinite(value))
    first = tuple(positions[0].tolist())
    count = f"{len(positions)} of its {math.prod(value.shape)} elements are not finite"
    return f"{where}{list(first)} is {value[first].item()} ({count})"


def _leaves(output: object) -> Iterator[tuple[Path, Any]]:
    """Yield what is no container, in order; each container once, so that cycles end."""
    seen: dict[int, object] = {}  # keeps the containers, for an id is unique only while its object lives
    waiting: list[tuple[Path, object]] = [((), output)]
    while waiting:
        path, value = waiting.pop()
        children = _children(value)
        if children is None:
            yield path, value
        elif id(value) not in seen:
            seen[id(value)] = value
            below = [((*path, *step), child) for step, child in children]
            waiting.extend(reversed(below))


def _children(value: Any) -> Iterable[tuple[Path, object]] | None:
    """Return steps and values of a container's elements, ``None`` for a leaf."""
    children: Iterable[tuple[Path, object]] | None = None
    if isinstance(value, _LEAVES):
        pass
    elif isinstance(value, Mapping):
        children = (((key,), child) for key, child in value.items())
    elif names := _field_names(value):
        children = (((Attribute(name),), getattr(value, name)) for name in names if hasattr(value, name))
    elif isinstance(value, Sequence):
        children = (((index,), child) for index, child in enumerate(value))
    elif isinstance(value, AbstractSet):
        children = zip(repeat(()), value, strict=False)
    elif _is_a(value, "numpy", "ndarray") and value.dtype.kind == "O":
        children = (((index,), child) for index, child in enumerate(value.flat))
    return children


def _field_names(value: Any) -> Sequence[str]:
    """Return the names of the fields of a dataclass or a named tuple."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    names: Sequence[str] = getattr(value, "_fields", ()) if isinstance(value, tuple) else ()
    return names


def _is_finite(leaf: Any) -> bool:
    if _is_a(leaf, "numpy", "ndarray") or _is_a(leaf, "numpy", "generic"):
        return _is_finite_array(leaf)
    if isinstance(leaf, Decimal):
        return leaf.is_finite()
    if isinstance(leaf, Rational) or not isinstance(leaf, Number):  # an integer may be too large for a float
        return True
    try:
        return cmath.isfinite(leaf)  # type: ignore[arg-type]  # what is no such number is the case below
    except (TypeError, ValueError, OverflowError):
        return True


def _is_finite_array(array: Any) -> bool:
    if array.dtype.kind in "mM":  # NaT is a missing date, not a number
        return True
    try:
        finite = sys.modules["numpy"].isfinite(array)
    except TypeError:  # text, records
        return True
    return not (~finite).any()


def _checkable(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the part of a tensor that this process holds, if it can have elements that are not finite."""
    import torch

    local: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # a shard of a DTensor
    inexact = local.is_floating_point() or local.is_complex()
    if not inexact or local.is_meta or local.layout is not torch.strided:
        return None
    return local


def _first_non_finite_tensor(tensors: list[tuple[Path, torch.Tensor]]) -> tuple[Path, torch.Tensor] | None:
    """Return the first tensor of one device with an element that is not finite; waits for the device once."""
    import torch

    # A NaN or an infinity shows in the sum, which is faster than a look at each element, and takes no memory.
    checked: list[tuple[Path, torch.Tensor]] = []
    sums: list[torch.Tensor] = []
    for path, tensor in tensors:
        try:
            sums.append(tensor.sum(dtype=torch.float32 if tensor.itemsize < _SINGLE else None))
        except NotImplementedError:  # the device has no arithmetic for this format
            continue
        checked.append((path, tensor))
    totals = torch.stack(sums).tolist() if sums else []
    for (path, tensor), total in zip(checked, totals, strict=True):
        if not cmath.isfinite(total):
            exact = tensor.float() if tensor.itemsize < _SINGLE else tensor
            if not torch.isfinite(exact).all():  # else large elements made the sum overflow
                return path, exact
    return None


def _is_a(value: object, module: str, name: str) -> bool:
    # A value of a library that was never imported cannot exist, so looking costs no import.
    library = sys.modules.get(module)
    return library is not None and isinstance(value, getattr(library, name))
