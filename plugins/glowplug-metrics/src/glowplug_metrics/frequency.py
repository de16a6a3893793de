"""Frequency: how many items a run gets done in a second."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch

from glowplug import Events, Metric, MetricUsage, RemovableEventHandle, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug.typing import AnyEvent, EngineProtocol

__all__ = ["Frequency"]


class Frequency(Metric):
    """Items per second since the epoch began, such as examples or tokens.

    Over several processes the items of all of them count. Work that an accelerator has not done yet is not waited for.

    Args:
        output_transform: Makes the number of items of the engine's output.
        device: See ``glowplug.Metric``; not used.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: At an update: no number.

    Example:
        >>> import time
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: time.sleep(0.01) or len(batch))
        >>> handle = Frequency().attach(engine, "examples/s")
        >>> engine.run([[1, 2, 3]]).metrics["examples/s"] < 300
        True
    """

    required_output_keys = None

    def reset(self) -> None:
        """Begin anew, now."""
        self._items = 0.0
        self._seconds = 0.0
        self._begin = perf_counter()

    def update(self, output: Any) -> None:
        """Count items.

        Args:
            output: How many: a number, or a tensor without dimensions, whose value is waited for.
        """
        if not isinstance(output, (int, float)) and not (
            isinstance(output, torch.Tensor) and output.ndim == 0
        ):
            raise TypeError(
                f"Frequency takes the number of items, got a {type(output).__name__}; make it so with output_transform, for "
                "example lambda output: len(output['y'])"
            )
        self._items += float(output)
        self._seconds = perf_counter() - self._begin

    @sync_all_reduce("_items", "_seconds:MAX")
    def compute(self) -> float:
        """Return the items of all processes per second.

        Raises:
            NotComputableError: If there has been no update.
        """
        if self._seconds == 0:
            raise NotComputableError("Frequency has counted nothing since it was reset")
        return self._items / self._seconds

    def attach(  # type: ignore[override]  # what a user chooses here is the event, as in ignite
        self, engine: EngineProtocol, name: str, event_name: AnyEvent = Events.ITERATION_COMPLETED
    ) -> RemovableEventHandle:
        """Let an engine count from the start of each epoch, and publish whole items per second in ``state.metrics[name]``.

        Args:
            engine: The engine.
            name: The key in ``engine.state.metrics``.
            event_name: Where the value is published: at each iteration by default.

        Returns:
            A handle that takes back what this call added.
        """
        return super().attach(engine, name, _since_epoch_started(event_name))

    def detach(self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED) -> None:  # type: ignore[override]  # as attach
        """Take back what :meth:`attach` added for this event.

        Args:
            engine: The engine.
            event_name: As given to :meth:`attach`.
        """
        super().detach(engine, _since_epoch_started(event_name))

    def is_attached(self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED) -> bool:  # type: ignore[override]  # as attach
        """Return whether the metric is attached to that engine for that event."""
        return super().is_attached(engine, _since_epoch_started(event_name))

    def publishable(self, value: Any) -> Any:
        """Return whole items."""
        return int(value)


def _since_epoch_started(event_name: AnyEvent) -> MetricUsage:
    return MetricUsage(
        started=Events.EPOCH_STARTED, completed=event_name, iteration_completed=Events.ITERATION_COMPLETED
    )
