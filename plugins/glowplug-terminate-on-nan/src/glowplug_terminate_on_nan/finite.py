"""Search a nested output for values that are not finite."""

from __future__ import annotations

import cmath
import dataclasses
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set as AbstractSet
from decimal import Decimal
from itertools import repeat
from numbers import Number, Rational
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

# Types without elements to search: frequent leaf types, and sequences that cannot contain NaN or infinity.
_LEAVES = (float, int, type(None), str, bytes, bytearray, memoryview, range)

# Size of a float32 in bytes. Tensors of smaller formats are summed as float32, because small formats overflow easily.
_SINGLE = 4


class Attribute(str):
    """Path step that names an attribute; other steps are keys or indices."""

    __slots__ = ()


Path = tuple[object, ...]
Label = TypeVar("Label")


def find_non_finite(output: object) -> tuple[Path, Any] | None:
    """Return the path and value of the first leaf that is NaN or infinite.

    The search covers numbers, numpy scalars, numpy arrays and dense tensors. Values nested in mappings, sequences, sets, named
    tuples and dataclasses are also checked. Other leaves are ignored. Each tensor is summed, and a single synchronization per
    device reads all sums.

    Args:
        output: A value, or a container of values; containers may be nested.

    Returns:
        The path and the leaf, or ``None`` if all leaves are finite. The path is a tuple of keys, indices and attribute names.
        Tensors are checked after all other leaves.

    Example:
        >>> find_non_finite({"loss": [0.5, float("nan")]})
        (('loss', 1), nan)
        >>> find_non_finite({"loss": [0.5, None]}) is None
        True
    """
    found, tensors = scan(output)
    groups = iter(by_device(tensors))
    while found is None and (group := next(groups, None)) is not None:
        found = first_non_finite_tensor(group)
    return found


def scan(output: object) -> tuple[tuple[Path, Any] | None, list[tuple[Path, torch.Tensor]]]:
    """Check all leaves but the tensors.

    Args:
        output: A value, or a container of values; containers may be nested.

    Returns:
        The path and the value of the first leaf that is not finite, or ``None``; and the tensors that are still to be checked.
    """
    tensors: list[tuple[Path, torch.Tensor]] = []
    for path, leaf in _leaves(output):
        if _is_a(leaf, "torch", "Tensor"):
            tensor = checkable(leaf)
            if tensor is not None:
                tensors.append((path, tensor))
        elif not _is_finite(leaf):
            return (path, leaf), []
    return None, tensors


def by_device(tensors: Iterable[tuple[Label, torch.Tensor]]) -> Iterable[list[tuple[Label, torch.Tensor]]]:
    """Group labelled tensors by their devices."""
    groups: dict[torch.device, list[tuple[Label, torch.Tensor]]] = {}
    for label, tensor in tensors:
        groups.setdefault(tensor.device, []).append((label, tensor))
    return groups.values()


def name_of(path: Path) -> str:
    """Return text such as ``output['loss']`` for a path.

    Example:
        >>> name_of(("loss", 1))
        "output['loss'][1]"
    """
    return "output" + "".join(f".{step}" if isinstance(step, Attribute) else f"[{step!r}]" for step in path)


def describe(where: str, value: Any) -> str:
    """Return text such as ``output['loss'] is nan`` for a leaf.

    Example:
        >>> describe("output['loss']", float("nan"))
        "output['loss'] is nan"
    """
    if getattr(value, "ndim", 0) == 0:
        return f"{where} is {value}"
    library = sys.modules["torch" if _is_a(value, "torch", "Tensor") else "numpy"]
    positions = library.argwhere(~library.isfinite(value))
    first = tuple(positions[0].tolist())
    count = f"{len(positions)} of the {math.prod(value.shape)} elements of {where} are not finite"
    return f"{where}{list(first)} is {value[first].item()} ({count})"


def _leaves(output: object) -> Iterator[tuple[Path, Any]]:
    """Yield the leaves in order; visit each container only once, so that a cycle of references causes no endless loop."""
    # The dict also keeps the containers alive: an id is unique only during the lifetime of its object.
    seen: dict[int, object] = {}
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
    """Return the elements of a container as pairs of path and element, such as ``(("loss",), 0.5)``, or ``None`` for a leaf."""
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
    """Return the field names of a dataclass or named tuple, or an empty sequence for other values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    names: Sequence[str] = getattr(value, "_fields", ()) if isinstance(value, tuple) else ()
    return names


def _is_finite(leaf: Any) -> bool:
    if _is_a(leaf, "numpy", "ndarray") or _is_a(leaf, "numpy", "generic"):
        return _is_finite_array(leaf)
    if isinstance(leaf, Decimal):
        return leaf.is_finite()
    # Integers and fractions are always finite, and may be too large for isfinite().
    if isinstance(leaf, Rational) or not isinstance(leaf, Number):
        return True
    try:
        return cmath.isfinite(leaf)  # type: ignore[arg-type]  # a Number may be of an unknown type
    except (TypeError, ValueError, OverflowError):
        return True


def _is_finite_array(array: Any) -> bool:
    # NaT is a missing date, not a number.
    if array.dtype.kind in "mM":
        return True
    try:
        finite = sys.modules["numpy"].isfinite(array)
    except TypeError:
        # The array contains text or records.
        return True
    return not (~finite).any()


def checkable(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return this process's part of a tensor, or ``None`` if the tensor cannot be checked or can hold only finite values."""
    import torch

    # A DTensor has to_local(), which returns the shard of this process.
    local: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    inexact = local.is_floating_point() or local.is_complex()
    if not inexact or local.is_meta or local.layout is not torch.strided:
        return None
    return local


def first_non_finite_tensor(tensors: list[tuple[Label, torch.Tensor]]) -> tuple[Label, torch.Tensor] | None:
    """Return the first tensor with an element that is not finite; read the sums of all tensors in one synchronization."""
    import torch

    # Check the sums, because NaN and infinity propagate to them. A sum is faster than isfinite() and needs no mask.
    checked: list[tuple[Label, torch.Tensor]] = []
    sums: list[torch.Tensor] = []
    for label, tensor in tensors:
        try:
            sums.append(tensor.sum(dtype=torch.float32 if tensor.itemsize < _SINGLE else None))
        except NotImplementedError:
            # The device has no arithmetic for this format.
            continue
        checked.append((label, tensor))
    totals = torch.stack(sums).tolist() if sums else []
    for (label, tensor), total in zip(checked, totals, strict=True):
        if not cmath.isfinite(total):
            exact = at_least_single(tensor)
            # The sum of large finite elements may overflow, so check the elements.
            if not torch.isfinite(exact).all():
                return label, exact
    return None


def at_least_single(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a format smaller than float32 as float32, because devices lack arithmetic for some small formats."""
    return tensor.float() if tensor.itemsize < _SINGLE else tensor


def _is_a(value: object, module: str, name: str) -> bool:
    # If the library was never imported, no instances of its classes exist.
    library = sys.modules.get(module)
    return library is not None and isinstance(value, getattr(library, name))
