"""What several metrics need of one batch, worked out once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import torch

from glowplug.typing import EngineProtocol

__all__ = ["batch_of", "forget_batch", "one_batch", "shared"]

_R = TypeVar("_R")


class _Batch(threading.local):
    """The batch that this thread's metrics are being given, and what has been worked out of its tensors.

    Tensors may be changed in place, and buffers filled anew behind the back of their version counters. So the results
    are of two tensors, at their versions, within one batch, and are never looked at outside.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.key: object = None
        self.forget()

    def forget(self) -> None:
        self.tensors: tuple[weakref.ref[torch.Tensor], ...] = ()
        self.versions: tuple[int, int] | None = None
        self.results: dict[Any, Any] = {}

    def take(self, y_pred: torch.Tensor, y: torch.Tensor) -> dict[Any, Any]:
        """Return the results of these tensors, as they are now."""
        versions = (_version(y_pred), _version(y))
        if self.versions != versions or self.tensors[0]() is not y_pred or self.tensors[1]() is not y:
            results = self.results = {}
            # What was made of predictions lives no longer than they do.
            self.tensors = (weakref.ref(y_pred, lambda _: results.clear()), weakref.ref(y))
            self.versions = versions
        return self.results


_batch = _Batch()


class one_batch:  # noqa: N801 - used as a function; a class is a cheaper context manager than a generator
    """Let the metrics that are updated in this block share what they work out, since all take one batch.

    A block within another shares with it.

    Args:
        key: equal for blocks that take the same batch; by default none does.

    Example:
        >>> from glowplug_metrics import Precision, Recall
        >>> precision, recall = Precision(), Recall()
        >>> y_pred, y = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> with one_batch():
        ...     precision.update((y_pred, y))
        ...     recall.update((y_pred, y))
    """

    def __init__(self, key: object = None) -> None:
        self._key = key

    def __enter__(self) -> None:
        self._is_inner = _batch.is_open
        if self._is_inner:
            return
        _batch.is_open = True
        if self._key is None or _batch.key != self._key:
            _batch.key = self._key
            _batch.forget()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _batch.is_open = self._is_inner


def batch_of(engine: EngineProtocol) -> one_batch:
    """Return the block in which metrics take the batch of an engine's present iteration.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> with batch_of(FakeEngine()):
        ...     pass
    """
    return one_batch((weakref.ref(engine), engine.state.iteration))


def forget_batch() -> None:
    """Share nothing with what comes: an engine begins anew, and its iterations may have numbers that were there before.

    Example:
        >>> forget_batch()
    """
    _batch.key = None
    _batch.forget()


def shared(function: Callable[..., _R], y_pred: torch.Tensor, y: torch.Tensor, *args: Any) -> _R:
    """Return ``function(y_pred, y, *args)``, called once for all metrics that take the same batch.

    Outside of :class:`one_batch` and :func:`batch_of` it is called each time.

    Args:
        function: a pure function at module level.
        y_pred: predictions.
        y: targets.
        *args: further arguments, which can be hashed.

    Returns:
        What it returned, for all who ask: not to be changed.

    Example:
        >>> def equal(y_pred, y):
        ...     print("looks")
        ...     return torch.equal(y_pred, y)
        >>> y_pred, y = torch.ones(2), torch.ones(2)
        >>> with one_batch():
        ...     shared(equal, y_pred, y), shared(equal, y_pred, y)
        looks
        (True, True)
    """
    if not _batch.is_open or torch.is_inference_mode_enabled():
        return function(y_pred, y, *args)
    results = _batch.take(y_pred, y)
    key = (function, *args)
    if key not in results:
        results[key] = function(y_pred, y, *args)
    result: _R = results[key]
    return result


def _version(tensor: torch.Tensor) -> int:
    # A tensor of inference mode counts no versions, and outside of that mode cannot be changed in place.
    return -1 if tensor.is_inference() else tensor._version  # noqa: SLF001 - torch's documented counter has this name
