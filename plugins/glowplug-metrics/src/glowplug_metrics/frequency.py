"""Frequency: items per second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import torch

from glowplug import Events, Metric, MetricUsage, RemovableEventHandle, RunStart, identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug.typing import AnyEvent, EngineProtocol

__all__ = ["Frequency"]


class Frequency(Metric):
    """Measure how many items, such as examples or tokens, are processed per second.

    The rate is the average since the epoch began or, with ``window``, over the last updates. With several processes, the metric
    counts the items of all processes. The metric does not wait for work queued on an accelerator, unless the output is an
    accelerator tensor. If a run continues in the middle of an epoch, the clock is stopped until the next iteration starts, so the
    time to restore the position in the data is not counted.

    Args:
        output_transform: Turns the engine's output into the number of items.
        device: Unused.
        skip_unrolling: See :class:`glowplug.Metric`.
        window: Number of the most recent updates to average over. By default, the rate is averaged over all updates since the epoch
            began.

    Raises:
        TypeError: If an output is neither a number nor a scalar tensor, or if ``window`` is not an integer.
        ValueError: If ``window`` is below 1.

    Example:
        >>> import time
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: time.sleep(0.01) or len(batch))
        >>> handle = Frequency().attach(engine, "examples/s")
        >>> engine.run([[1, 2, 3]]).metrics["examples/s"] < 300
        True
    """

    required_output_keys = None

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
        *,
        window: int | None = None,
    ) -> None:
        if window is not None and not isinstance(window, int):
            raise TypeError(f"Frequency: window must be an integer or None, got {window!r}")
        if window is not None and window < 1:
            raise ValueError(f"Frequency: window must be at least 1, got {window!r}")
        self.window = window
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Restart the clock and discard all items."""
        self._items = self._recent_items = 0.0
        self._seconds = self._recent_seconds = 0.0
        self._begin = perf_counter()
        # The items and seconds before the window, and after each update within it.
        self._totals = deque([(0.0, 0.0)], None if self.window is None else self.window + 1)

    def update(self, output: Any) -> None:
        """Count items.

        Args:
            output: Number of items. A scalar tensor is also accepted and is immediately converted to a Python number.
        """
        if not isinstance(output, (int, float)) and not (
            isinstance(output, torch.Tensor) and output.ndim == 0
        ):
            raise TypeError(
                f"Frequency needs the number of items as a number or scalar tensor, got {type(output).__name__}; compute "
                "the number with output_transform, such as lambda output: len(output['y'])"
            )
        self._items += float(output)
        self._seconds = perf_counter() - self._begin
        if self.window is not None:
            self._totals.append((self._items, self._seconds))
        items, seconds = self._totals[0]
        self._recent_items, self._recent_seconds = self._items - items, self._seconds - seconds

    @sync_all_reduce("_recent_items", "_recent_seconds:MAX")
    def compute(self) -> float:
        """Return the number of items per second over all processes.

        Raises:
            NotComputableError: If the metric has not been updated since its last reset.
        """
        if self._recent_seconds == 0:
            raise NotComputableError("Frequency has received no items since its last reset")
        return self._recent_items / self._recent_seconds

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Let the engine reset and update the metric and control its clock; see :meth:`glowplug.metrics.Metric.feed`."""
        with ExitStack() as fed:
            fed.enter_context(super().feed(engine, usage))
            fed.enter_context(engine.add_event_handler(Events.EPOCH_STARTED, self._continue_clock))
            return RemovableEventHandle(fed.pop_all().close)

    def _continue_clock(self, engine: EngineProtocol) -> None:
        """If a run continues in the middle of an epoch, stop the clock until the next iteration starts."""
        is_new = engine.state.run_start not in {RunStart.CONTINUED, RunStart.LOADED}
        if is_new or engine.state.iteration == engine.state.epoch_start:
            return

        def begin(engine: EngineProtocol) -> None:  # noqa: ARG001 - handlers receive the engine
            self._begin = perf_counter() - self._seconds
            handle.remove()

        handle = engine.add_event_handler(Events.ITERATION_STARTED, begin)

    def attach(  # type: ignore[override]  # takes an event, as in ignite
        self, engine: EngineProtocol, name: str, event_name: AnyEvent = Events.ITERATION_COMPLETED
    ) -> RemovableEventHandle:
        """Count items from the start of each epoch and publish the items per second, rounded down to an integer.

        Args:
            engine: The engine.
            name: The key in ``engine.state.metrics``.
            event_name: When to publish the value. By default, the value is published at each iteration.

        Returns:
            A handle that detaches the metric.
        """
        return super().attach(engine, name, _since_epoch_started(event_name))

    def detach(self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED) -> None:  # type: ignore[override]  # same as attach
        """Detach the metric from an engine.

        Args:
            engine: The engine.
            event_name: The event that was passed to :meth:`attach`.
        """
        super().detach(engine, _since_epoch_started(event_name))

    def is_attached(self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED) -> bool:  # type: ignore[override]  # same as attach
        """Return whether the metric is attached to this engine with this event."""
        return super().is_attached(engine, _since_epoch_started(event_name))

    def publishable(self, value: Any) -> Any:
        """Round the value down to an integer."""
        return int(value)


def _since_epoch_started(event_name: AnyEvent) -> MetricUsage:
    return MetricUsage(
        started=Events.EPOCH_STARTED, completed=event_name, iteration_completed=Events.ITERATION_COMPLETED
    )
