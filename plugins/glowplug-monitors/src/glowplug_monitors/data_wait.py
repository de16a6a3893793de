"""Share of the time for which a run waits for data."""

from __future__ import annotations

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_monitors.iteration_times import IterationTimes, check_window

__all__ = ["DataWait"]


class DataWait:
    """Publish the share of the time that the last iterations spent waiting for batches, as a metric.

    A value near 0 means that the data is always ready; with a value near 1, more workers of the data loader or less work per sample
    would make the run faster. The time between iterations and the first batch of a run do not count. On an accelerator, the steps may
    end before their work is done, and the value may be too high until the queue of the accelerator is full.

    Args:
        window: Number of iterations.

    Raises:
        TypeError: If ``window`` is not an integer.
        ValueError: If ``window`` is below 1.

    Example:
        >>> import time
        >>> from glowplug import Engine
        >>> def slow_data():
        ...     for number in range(4):
        ...         time.sleep(0.03)
        ...         yield number
        >>> engine = Engine(lambda engine, batch: time.sleep(0.01))
        >>> handle = DataWait().attach(engine)
        >>> 0.6 < engine.run(slow_data()).metrics["data_wait"] < 0.9
        True
    """

    phase = Phase.METRICS

    def __init__(self, window: int = 100) -> None:
        check_window("DataWait", window)
        self._times = IterationTimes(window)

    def attach(
        self,
        engine: EngineProtocol,
        name: str = "data_wait",
        event_name: AnyEvent = Events.ITERATION_COMPLETED,
    ) -> RemovableEventHandle:
        """Publish the value in ``engine.state.metrics``.

        Args:
            engine: The engine.
            name: Name of the metric.
            event_name: Event at which the value is published.
        """
        return self._times.attach(engine, name, event_name, self._times.waiting_share)
