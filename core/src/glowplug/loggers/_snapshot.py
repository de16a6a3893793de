"""From what engines hold to what loggers take: names, numbers, and copies that no later step can change."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from numbers import Integral, Real
from typing import Any

ARRAYS = (("torch", "Tensor"), ("numpy", "ndarray"), ("numpy", "generic"))
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
        if not any(_is_a(value, *kind) for kind in ARRAYS):
            return False
        if value.ndim > 1:
            return False
        if _on_device(value):
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


def snapshot(value: Any) -> Any:
    """Return a copy of tensors and arrays, alone or in containers, that later steps cannot change."""
    if value.__class__ in PLAIN:
        return value
    if isinstance(value, dict):
        is_flat = PLAIN.issuperset(map(type, value.values()))  # nearly always, and many times faster to copy
        return value.copy() if is_flat else {key: snapshot(item) for key, item in value.items()}
    if value.__class__ in (list, tuple):
        return value.__class__(map(snapshot, value))
    if _is_a(value, "torch", "Tensor"):
        detached = value.detach()
        return Deferred(detached) if _on_device(value) else detached.clone()
    if _is_a(value, "numpy", "ndarray"):
        return value.copy()
    return _picture(value)


def _picture(value: Any) -> Any:
    """Return the pixels of a figure or an image, which can be drawn on at the next step already; others as they are."""
    if _is_a(value, "matplotlib.figure", "Figure"):
        import numpy as np

        shown_on = value.canvas
        try:
            canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(value)
            canvas.draw()
            return np.array(canvas.buffer_rgba())
        finally:
            value.set_canvas(shown_on)
    if _is_a(value, "PIL.Image", "Image"):
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
    if _is_a(value, "torch", "Tensor"):
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


def _is_a(value: Any, module: str, name: str) -> bool:
    # A value of a library that was never imported cannot exist, so looking is free of imports.
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _on_device(value: Any) -> bool:
    device = getattr(value, "device", None)
    return getattr(device, "type", "cpu") != "cpu"


def _number_from_plugins(value: Any) -> float | None:
    if value is None:
        return None
    from glowplug.plugins import to_scalar

    return to_scalar(value)
