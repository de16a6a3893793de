"""Snapshots of logged values: copies that later steps cannot change."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

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
    """Return the pixels of a figure or image; return other values unchanged."""
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
    return value


def plain(value: Any) -> Any:
    """Return hyperparameters as plain data.

    Plain data are numbers, strings, ``None``, lists, tuples and dicts with string keys.

    Args:
        value: Any value. Tensors and arrays become numbers or lists, and objects of other types become ``str(value)``.

    Example:
        >>> from pathlib import PurePosixPath
        >>> plain({"lr": 0.1, "data": PurePosixPath("/data"), 3: (1, 2)})
        {'lr': 0.1, 'data': '/data', '3': (1, 2)}
    """
    if value.__class__ in PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(map(plain, value))
    if is_array(value):
        return plain(value.tolist())
    return str(value)


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


def on_device(value: Any) -> bool:
    """Return whether a tensor is on a device other than the CPU."""
    return getattr(getattr(value, "device", None), "type", "cpu") != "cpu"
