"""The profiler of the step, the data and the events."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glowplug import EventEnum, Events, RemovableEventHandle
from glowplug.engine import describe_handler
from glowplug.typing import EngineProtocol, RegistrationProtocol
from glowplug_timers.run_meter import RunMeter, is_new_run, is_of_profiler
from glowplug_timers.series import Series, statistics_of
from glowplug_timers.table import aligned, as_text

_NOT_YET = "not yet triggered"
_EPOCH = (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED)
_RUN = (Events.STARTED, Events.COMPLETED)
_EVENTS = (
    *(Events.STARTED, Events.EPOCH_STARTED),
    *(Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED),
    *(Events.ITERATION_STARTED, Events.ITERATION_COMPLETED),
    *(Events.EPOCH_COMPLETED, Events.COMPLETED),
)
_COLUMNS = ("total", "min/index", "max/index", "mean", "std")
_CSV_EVENTS = (
    *(Events.STARTED, Events.COMPLETED, Events.EPOCH_STARTED, Events.EPOCH_COMPLETED),
    *(Events.ITERATION_STARTED, Events.ITERATION_COMPLETED),
    *(Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED),
)


class BasicTimeProfiler:
    """Measure the step, the data, and the handlers of each event as a whole.

    A profiler belongs to one engine. A new run discards the times of the last run; a run that continues adds to them. While no
    run is in progress, the profiler has only the two handlers with which it notices the start and the end of a run.

    Attributes:
        processing_times: Times of the step, by iteration.
        dataflow_times: Times in which the data yielded a batch, by iteration.
        event_handlers_times: Times of all handlers of an event together, by iteration or epoch.
        event_handlers_names: Names of the handlers of each event.

    Example:
        >>> from glowplug import Engine
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> profiler = BasicTimeProfiler()
        >>> handle = profiler.attach(trainer)
        >>> state = trainer.run([1, 2, 3], max_epochs=2)
        >>> results = profiler.get_results()
        >>> sorted(results["processing_stats"])
        ['max/index', 'mean', 'min/index', 'std', 'total']
    """

    def __init__(self) -> None:
        self._meter = RunMeter(self)
        self._clear()

    def attach(self, engine: EngineProtocol) -> RemovableEventHandle:
        """Measure the runs of an engine.

        Args:
            engine: The engine.

        Returns:
            A handle that detaches the profiler.

        Raises:
            ValueError: If the profiler is already attached to an engine.
            TypeError: If ``engine`` is not an engine.
        """
        return self._meter.attach(engine)

    def _clear(self) -> None:
        self.processing_times, self.dataflow_times = Series(), Series()
        # The epoch of each time of the step.
        self._epochs = array("q")
        self.event_handlers_times: dict[EventEnum | str, Series] = {event: Series() for event in _EVENTS}
        self.event_handlers_names: dict[EventEnum | str, list[str]] = {event: [] for event in _EVENTS}

    def begin_run(self, engine: EngineProtocol) -> None:
        """Discard the times of the last run at the start of a new run; the engine calls this method.

        Args:
            engine: The engine.
        """
        if is_new_run(engine):
            self._clear()
        self.event_handlers_names = {event: [] for event in _EVENTS}
        for registration in engine.registrations():
            if registration.event in _EVENTS and not is_of_profiler(registration):
                self._add_name(registration)

    def _add_name(self, registration: RegistrationProtocol) -> None:
        names, name = self.event_handlers_names[registration.event], describe_handler(registration.handler)
        if name not in names:
            names.append(name)

    def add_handler(self, engine: EngineProtocol, registration: RegistrationProtocol, seconds: float) -> None:
        """Add the time of one call of a handler.

        Args:
            engine: The engine.
            registration: The registration of the handler.
            seconds: The time.
        """
        event = registration.event
        if event not in _EVENTS:
            return
        state = engine.state
        number = 1 if event in _RUN else state.epoch if event in _EPOCH else state.iteration
        if event in {Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED}:
            # The batch belongs to the next iteration.
            number += 1
        self.event_handlers_times[event].add(number, seconds)
        self._add_name(registration)

    def add_processing(self, engine: EngineProtocol, seconds: float) -> None:
        """Add the time of the step in the current iteration.

        Args:
            engine: The engine.
            seconds: The time.
        """
        self.processing_times.add(engine.state.iteration, seconds)
        if len(self._epochs) < len(self.processing_times):
            self._epochs.append(engine.state.epoch)

    def add_dataflow(self, engine: EngineProtocol, seconds: float) -> None:
        """Add the time in which the batch of the next iteration was fetched.

        Args:
            engine: The engine.
            seconds: The time.
        """
        self.dataflow_times.add(engine.state.iteration + 1, seconds)

    def get_results(self) -> dict[str, dict[str, Any]]:
        """Return the statistics of the run; the method can be called during the run, too.

        Returns:
            A dict with ``processing_stats``, ``dataflow_stats``, ``event_handlers_stats`` and ``event_handlers_names``. Statistics
            are dicts with ``total``, ``min/index``, ``max/index``, ``mean`` and ``std``, in seconds; they contain only ``total``
            if there are fewer than two times. An index is a position, counted from 0.
        """
        import numpy as np

        handlers: dict[str, Any] = {event.name: self._event_stats(event) for event in _EVENTS}
        total = sum(sum(times.seconds) for times in self.event_handlers_times.values())
        return {
            "processing_stats": _stats(self.processing_times),
            "dataflow_stats": _stats(self.dataflow_times),
            # A number with the method item(), which scripts written for ignite call.
            "event_handlers_stats": {**handlers, "total_time": np.float64(total)},
            "event_handlers_names": {
                f"{event.name}_names": list(self.event_handlers_names[event]) for event in _EVENTS
            },
        }

    def _event_stats(self, event: EventEnum) -> dict[str, Any]:
        if not self.event_handlers_names[event]:
            return {"total": 0.0}
        return _stats(self.event_handlers_times[event])

    def write_results(self, output_path: str | Path) -> None:
        """Write the times of each iteration to a CSV file.

        Args:
            output_path: The file. Its columns are ``epoch``, ``iteration``, ``processing_stats``, ``dataflow_stats``,
                ``Event_STARTED``, and so on. A cell is empty if nothing was measured.
        """
        dataflow = self.dataflow_times.by_number()
        events = [(event, self.event_handlers_times[event].by_number()) for event in _CSV_EVENTS]
        with Path(output_path).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            names = [f"Event_{event.name}" for event in _CSV_EVENTS]
            table.writerow(["epoch", "iteration", "processing_stats", "dataflow_stats", *names])
            steps = zip(
                self._epochs, self.processing_times.numbers, self.processing_times.seconds, strict=True
            )
            for epoch, iteration, seconds in steps:
                times = [
                    by_number.get(1 if event in _RUN else epoch if event in _EPOCH else iteration, "")
                    for event, by_number in events
                ]
                table.writerow([epoch, iteration, seconds, dataflow.get(iteration, ""), *times])

    @staticmethod
    def print_results(results: Mapping[str, Mapping[str, Any]]) -> str:
        """Print a table of the statistics, in seconds.

        Args:
            results: Result of :meth:`get_results`.

        Returns:
            The printed table.

        Example:
            >>> text = BasicTimeProfiler.print_results(BasicTimeProfiler().get_results())
            seconds                            total  min/index  max/index  mean  std  handlers
            processing             not yet triggered
            dataflow               not yet triggered
            event handlers                   0.00000
              STARTED                        0.00000
              EPOCH_STARTED                  0.00000
              GET_BATCH_STARTED              0.00000
              GET_BATCH_COMPLETED            0.00000
              ITERATION_STARTED              0.00000
              ITERATION_COMPLETED            0.00000
              EPOCH_COMPLETED                0.00000
              COMPLETED                      0.00000
        """
        events, names = results["event_handlers_stats"], results["event_handlers_names"]
        rows = [
            ["seconds", *_COLUMNS, "handlers"],
            _row("processing", results["processing_stats"]),
            _row("dataflow", results["dataflow_stats"]),
            _row("event handlers", {"total": events["total_time"]}),
            *(
                _row(f"  {name}", stats, ", ".join(names[f"{name}_names"]))
                for name, stats in events.items()
                if name != "total_time"
            ),
        ]
        text = aligned(rows, text_columns=[0, len(_COLUMNS) + 1])
        print(text)  # noqa: T201 - the purpose of the method
        return text


def _row(name: str, stats: Mapping[str, Any], handlers: str = "") -> list[str]:
    return [name, *(as_text(stats.get(column, "")) for column in _COLUMNS), handlers]


def _stats(times: Series) -> dict[str, Any]:
    found = statistics_of(times.seconds)
    if found is None:
        return {"total": _NOT_YET}
    if found.std is None:
        return {"total": found.total}
    return {
        "total": found.total,
        "min/index": (found.minimum, found.min_index),
        "max/index": (found.maximum, found.max_index),
        "mean": found.mean,
        "std": found.std,
    }
