"""Snapshots of logged values: copies that later steps cannot change."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from argparse import Namespace

    from _typeshed import DataclassInstance, SupportsKeysAndGetItem

    Params: TypeAlias = (
        Mapping[str, Any]
        | Namespace
        | types.SimpleNamespace
        | DataclassInstance
        | SupportsKeysAndGetItem[str, Any]
    )

PLAIN = frozenset({float, int, bool, str, bytes, type(None)})


class HostCopy:
    """Asynchronous copy of a tensor to host memory.

    If the tensor is on a CUDA device, only the worker thread waits for the copy. Copies from other devices block the training
    thread.

    Args:
        tensor: The tensor on the device.
    """

    def __init__(self, tensor: Any) -> None:
        import torch

        # A non-blocking copy is queued behind the step's kernels, so the training thread does not wait.
        # Only CUDA can signal the end of the copy, so copies from other devices block.
        self._host = tensor.to("cpu", non_blocking=tensor.is_cuda)
        self._copied: Any = (
            torch.cuda.current_stream(tensor.device).record_event() if tensor.is_cuda else None
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self._host.shape)

    @property
    def nbytes(self) -> int:
        """Size of the tensor in bytes."""
        return int(self._host.nbytes)

    @property
    def is_copied(self) -> bool:
        """Whether :meth:`resolve` would not wait."""
        return self._copied is None or bool(self._copied.query())

    def resolve(self) -> Any:
        """Wait for the copy and return the tensor in host memory."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host


class HostCopyItem:
    """One element of a tensor that is being copied.

    Args:
        copy: The copy of the tensor.
        index: Index of the element; ``None`` for a scalar tensor.
    """

    def __init__(self, copy: HostCopy, index: int | None) -> None:
        self._copy = copy
        self._index = index

    def resolve(self) -> float:
        """Wait for the copy and return the element."""
        host = self._copy.resolve()
        return float(host if self._index is None else host[self._index])

    __float__ = resolve


def snapshot(value: Any) -> Any:
    """Copy the tensors, arrays, figures and images in a value, including those in nested containers."""
    if value.__class__ in PLAIN:
        return value
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if value.__class__ in (list, tuple):
        return value.__class__(map(snapshot, value))
    if is_a(value, "torch", "Tensor"):
        detached = value.detach()
        return HostCopy(detached) if on_device(value) else detached.clone()
    if is_a(value, "numpy", "ndarray"):
        return value.copy()
    return _picture(value)


def _picture(value: Any) -> Any:
    """Convert a figure or image to pixels, and an interactive figure to HTML; return other values unchanged."""
    # Draw the figure now: the user may draw on the same figure in the next step.
    if is_a(value, "matplotlib.figure", "Figure"):
        import numpy as np

        shown_on = value.canvas
        try:
            canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(value)
            canvas.draw()
            return np.array(canvas.buffer_rgba())
        finally:
            value.set_canvas(shown_on)
    if is_a(value, "PIL.Image", "Image"):
        import numpy as np

        return np.array(value if value.mode in ("L", "RGB", "RGBA") else value.convert("RGBA"))
    if hasattr(value, "to_html"):
        # Figures of plotly, altair and bokeh, which change as the user draws on them.
        return str(value.to_html())
    return value


def plain(value: Any) -> Any:
    """Return hyperparameters as plain data.

    Plain data are numbers, strings, ``None``, lists, tuples and dicts with string keys.

    Args:
        value: Any value. Namespaces, dataclasses and mapping-like objects become dicts. Tensors and arrays become numbers or
            lists. Any other object that is not plain data, such as ``bytes``, becomes ``str(value)``.

    Example:
        >>> from pathlib import PurePosixPath
        >>> plain({"lr": 0.1, "data": PurePosixPath("/data"), 3: (1, 2)})
        {'lr': 0.1, 'data': '/data', '3': (1, 2)}
    """
    # JSON, in which the spool and some backends store hyperparameters, has no bytes.
    if value.__class__ in PLAIN and value.__class__ is not bytes:
        return value
    if (items := items_of(value)) is not None:
        return {str(key): plain(item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(map(plain, value))
    if is_array(value):
        return plain(value.tolist())
    return str(value)


def items_of(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """Return the items of a mapping-like object, a namespace or a dataclass; return ``None`` for other values.

    Args:
        value: Any value.

    Example:
        >>> from argparse import Namespace
        >>> dict(items_of(Namespace(lr=0.1))), items_of([1, 2])
        ({'lr': 0.1}, None)
    """
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, types.SimpleNamespace) or is_a(value, "argparse", "Namespace"):
        return list(vars(value).items())
    # Configurations of some libraries are not registered as mappings.
    if callable(getattr(value, "keys", None)) and hasattr(value, "__getitem__"):
        return [(key, value[key]) for key in value.keys()]  # noqa: SIM118 - the object may iterate over something else
    return None


def resolve(value: Any) -> Any:
    """Convert a snapshot to the argument of a ``write_*`` method; tensors become numpy arrays."""
    if value.__class__ in PLAIN:
        return value
    if isinstance(value, dict):
        # Nearly all records are flat and do not need a new dict.
        is_flat = PLAIN.issuperset(map(type, value.values()))
        return value if is_flat else {key: resolve(item) for key, item in value.items()}
    if value.__class__ in (list, tuple):
        return value.__class__([resolve(item) for item in value])
    if isinstance(value, (HostCopy, HostCopyItem)):
        return resolve(value.resolve())
    if is_a(value, "torch", "Tensor"):
        # numpy has no bfloat16.
        return (value.float() if value.dtype == sys.modules["torch"].bfloat16 else value).numpy()
    return value


def is_a(value: Any, module: str, name: str) -> bool:
    """Return whether a value is an instance of a class, without importing the module of the class."""
    # Classes of a module that was never imported have no instances.
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def is_array(value: Any) -> bool:
    """Return whether a value is a torch tensor, a numpy array or a numpy scalar."""
    return (
        is_a(value, "torch", "Tensor") or is_a(value, "numpy", "ndarray") or is_a(value, "numpy", "generic")
    )


def is_distributed(value: Any) -> bool:
    """Return whether a value is a ``DTensor`` of which this rank has only a part, or a term of a sum over the ranks."""
    return is_a(value, "torch.distributed.tensor", "DTensor") and not all(
        placement.is_replicate() for placement in value.placements
    )


def on_device(value: Any) -> bool:
    """Return whether a tensor is on a device other than the CPU."""
    return getattr(getattr(value, "device", None), "type", "cpu") != "cpu"
