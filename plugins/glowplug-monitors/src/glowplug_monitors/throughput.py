"""Items per second over a sliding window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_monitors.iteration_times import IterationTimes, check_window

__all__ = ["Throughput"]


def _samples(batch: Any) -> int:
    """Return the length of the first tensor of a batch."""
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.ndim else 1
    parts = batch.values() if isinstance(batch, Mapping) else batch
    if isinstance(parts, Sequence) or isinstance(batch, Mapping):
        for part in parts:
            if isinstance(part, torch.Tensor):
                return _samples(part)
    raise TypeError(
        f"Throughput cannot count the samples of a batch of type {type(batch).__name__}; pass a function that counts them: "
        "Throughput(count=lambda batch: ...)"
    )


class Throughput:
    """Publish the number of items per second over the last iterations as a metric.

    Only the time from the request of a batch to the end of its iteration counts, so a validation or a checkpoint between two
    iterations does not lower the value. The first batch of a run does not count either. On an accelerator, a step may end before
    its work is done. The value over the window is still correct, because the queue of the accelerator is limited. With several
    ranks, the value is that of one rank.

    Args:
        count: Function that returns the number of items of a batch, such as its tokens. By default, the items are the samples: the
            length of the first tensor of the batch.
        window: Number of iterations.

    Raises:
        TypeError: If ``count`` cannot be called, or if ``window`` is not an integer.
        ValueError: If ``window`` is below 1.

    Example:
        >>> import time
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: time.sleep(0.01))
        >>> handle = Throughput().attach(engine, "samples/s")
        >>> 100 < engine.run([torch.zeros(4)] * 3).metrics["samples/s"] < 400
        True
    """

    phase = Phase.METRICS

    def __init__(self, count: Callable[[Any], float] = _samples, window: int = 100) -> None:
        if not callable(count):
            raise TypeError(f"Throughput: count must be a function of the batch, got {count!r}")
        check_window("Throughput", window)
        self._count = count
        self._times = IterationTimes(window)

    def attach(
        self,
        engine: EngineProtocol,
        name: str = "throughput",
        event_name: AnyEvent = Events.ITERATION_COMPLETED,
    ) -> RemovableEventHandle:
        """Publish the value in ``engine.state.metrics``.

        Args:
            engine: The engine.
            name: Name of the metric.
            event_name: Event at which the value is published.
        """
        return self._times.attach(engine, name, event_name, self._times.items_per_second, self._count)
