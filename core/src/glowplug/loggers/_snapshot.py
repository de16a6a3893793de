"""From what engines hold to what loggers take: names, numbers, and copies that no later step can change."""

from __future__ import annotations

import sys
from importlib import import_module
from numbers import Integral
from typing import Any

PLAIN = frozenset({float, int, bool, str, bytes, type(None)})


class Deferred:
    """A tensor on its way from a device: it was copied without waiting, and is read on the worker's thread."""

    def __init__(self, tensor: Any) -> None:
        import torch

        # Into pinned memory, so that the copy is queued behind the step's kernels and nobody waits for it. Only CUDA
        # has an event here that tells when it has arrived.
        self._host = tensor.to("cpu", non_blocking=tensor.is_cuda)
        self._copied: Any = torch.cuda.Event() if tensor.is_cuda else None  # type: ignore[no-untyped-call]  # torch's own
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(tensor.device))

    def resolve(self) -> Any:
        """Wait for the copy, and return the tensor in host memory."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host


class DeferredItem:
    """One element of a deferred tensor."""

    def __init__(self, deferred: Deferred, index: int | None) -> None:
        self._deferred = deferred
        self._index = index

    def resolve(self) -> float:
        """Return the element as a number."""
        host = self._deferred.resolve()
        return float(host if self._index is None else host[self._index])


def snapshot(value: Any) -> Any:
    """Return a copy of tensors and arrays, alone or in containers, that later steps cannot change."""
    if value.__class__ in PLAIN:
        return value
    if isinstance(value, dict):
        is_flat = PLAIN.issuperset(map(type, value.values()))  # nearly always, and many times faster to copy
        return value.copy() if is_flat else {key: snapshot(item) for key, item in value.items()}
    if value.__class__ in (list, tuple):
        return value.__class__(map(snapshot, value))
    if is_a(value, "torch", "Tensor"):
        detached = value.detach()
        return Deferred(detached) if on_device(value) else detached.clone()
    if is_a(value, "numpy", "ndarray"):
        return value.copy()
    return _picture(value)


def _picture(value: Any) -> Any:
    """Return the pixels of a figure or an image, which can be drawn on at the next step already; others as they are."""
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


def resolve(value: Any) -> Any:
    """Return a snapshot as a sink gets it: tensors as numpy arrays, numbers as they are. Runs on the worker's thread."""
    if value.__class__ in PLAIN:
        return value
    if isinstance(value, dict):
        is_flat = PLAIN.issuperset(map(type, value.values()))
        return value if is_flat else {key: resolve(item) for key, item in value.items()}
    if value.__class__ in (list, tuple):
        return value.__class__([resolve(item) for item in value])
    if isinstance(value, (Deferred, DeferredItem)):
        return resolve(value.resolve())
    if is_a(value, "torch", "Tensor"):
        if value.dtype == sys.modules["torch"].bfloat16:  # numpy has no such type
            value = value.float()
        return value.numpy()
    return value


def checked_step(step: object, source: str) -> int:
    """Return a step as an int (L-022).

    Raises:
        TypeError: it is no whole number.
    """
    if not isinstance(step, Integral):
        raise TypeError(
            f"{source} must give the step as a whole number, got {step!r} of {type(step).__name__}"
        )
    return int(step)


def is_a(value: Any, module: str, name: str) -> bool:
    # A value of a library that was never imported cannot exist, so looking is free of imports.
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def on_device(value: Any) -> bool:
    device = getattr(value, "device", None)
    return getattr(device, "type", "cpu") != "cpu"
