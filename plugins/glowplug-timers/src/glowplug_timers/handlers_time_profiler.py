"""The profiler of each handler."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from glowplug import EventEnum, RemovableEventHandle
from glowplug.engine import describe_handler
from glowplug.typing import EngineProtocol, RegistrationProtocol
from glowplug_timers.run_meter import RunMeter, is_new_run, is_of_profiler
from glowplug_timers.series import statistics_of
from glowplug_timers.table import aligned, as_text

_HEADER = ["handler", "event", "total (s)", "min/index", "max/index", "mean", "std"]
# The rows of the total, of the step and of the data come after the rows of the handlers.
_LAST_ROWS = 3


class HandlersTimeProfiler:
    """Measure each handler of each event, the step and the data.

    Custom events are measured as well. A call that the filter of an event skips is not counted, however short or long it is. A
    profiler belongs to one engine. A new run discards the times of the last run; a run that continues adds to them. While no run is
    in progress, the profiler has only the two handlers with which it notices the start and the end of a run.

    Attributes:
        processing_times: Times of the step, in the order of the iterations.
        dataflow_times: Times in which the data yielded a batch.
        event_handlers_times: Times of the calls, by event and by the name of the handler. Handlers of an event with the same name
            share an entry.
        EVENT_FILTER_THESHOLD_TIME: Calls at events with a filter that take less than this number of seconds are not counted.
            Defaults to 0, because calls that a filter skips are not measured in the first place.

    Example:
        >>> from glowplug import Engine, Events
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> def save(): ...
        >>> _ = trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), save)
        >>> profiler = HandlersTimeProfiler()
        >>> handle = profiler.attach(trainer)
        >>> state = trainer.run([1, 2, 3], max_epochs=4)
        >>> profiler.get_results()[0][:2], len(profiler.event_handlers_times[Events.EPOCH_COMPLETED]["save"])
        (['save', 'EPOCH_COMPLETED'], 2)
    """

    # The spelling of ignite.
    EVENT_FILTER_THESHOLD_TIME = 0.0

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
        self.processing_times, self.dataflow_times = array("d"), array("d")
        self.event_handlers_times: dict[EventEnum | str, dict[str, array[float]]] = {}

    def begin_run(self, engine: EngineProtocol) -> None:
        """Discard the times of the last run at the start of a new run; the engine calls this method.

        Args:
            engine: The engine.
        """
        if is_new_run(engine):
            self._clear()
        for registration in engine.registrations():
            if not is_of_profiler(registration):
                self._times_of(registration)

    def _times_of(self, registration: RegistrationProtocol) -> array[float]:
        times = self.event_handlers_times.setdefault(registration.event, {})
        return times.setdefault(describe_handler(registration.handler), array("d"))

    def add_handler(self, engine: EngineProtocol, registration: RegistrationProtocol, seconds: float) -> None:
        """Add the time of one call of a handler.

        Args:
            engine: The engine.
            registration: The registration of the handler.
            seconds: The time.
        """
        if registration.filter is None or seconds >= self.EVENT_FILTER_THESHOLD_TIME:
            self._times_of(registration).append(seconds)

    def add_processing(self, engine: EngineProtocol, seconds: float) -> None:
        """Add the time of the step in the current iteration.

        Args:
            engine: The engine.
            seconds: The time.
        """
        self.processing_times.append(seconds)

    def add_dataflow(self, engine: EngineProtocol, seconds: float) -> None:
        """Add the time in which the batch of the next iteration was fetched.

        Args:
            engine: The engine.
            seconds: The time.
        """
        self.dataflow_times.append(seconds)

    def get_results(self) -> list[list[Any]]:
        """Return the statistics of the run; the method can be called during the run, too.

        Returns:
            A row ``[handler, event, total, (min, index), (max, index), mean, std]`` for each handler and event, in seconds. The
            total is ``"not triggered"`` for a handler that did not run. The last three rows are the total, the step and the data.
            An index is a position, counted from 0.
        """
        named = [
            (name, getattr(event, "name", str(event)), times)
            for event, handlers in self.event_handlers_times.items()
            for name, times in handlers.items()
        ]
        total = sum(sum(times) for _, _, times in named)
        return [
            *([name, event, *_stats(times)] for name, event, times in named),
            ["Total", "", total, "", "", "", ""],
            ["Processing", "None", *_stats(self.processing_times)],
            ["Dataflow", "None", *_stats(self.dataflow_times)],
        ]

    def write_results(self, output_path: str | Path) -> None:
        """Write all times to a CSV file.

        Args:
            output_path: The file. Its columns are ``#``, ``processing_stats``, ``dataflow_stats``, and the name and event of each
                handler. Row ``n`` contains the time of the ``n``-th call; later cells of a column are empty.
        """
        columns = {"processing_stats": self.processing_times, "dataflow_stats": self.dataflow_times}
        for event, handlers in self.event_handlers_times.items():
            for name, times in handlers.items():
                columns[f"{name} ({getattr(event, 'name', str(event))})"] = times
        with Path(output_path).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["#", *columns])
            for number, times_of_call in enumerate(zip_longest(*columns.values(), fillvalue=""), start=1):
                table.writerow([number, *times_of_call])

    @staticmethod
    def print_results(results: Sequence[Sequence[Any]]) -> str:
        """Print a table of the statistics in seconds, with the slowest handlers first.

        Args:
            results: Result of :meth:`get_results`.

        Returns:
            The printed table.

        Example:
            >>> results = [
            ...     ["log", "ITERATION_COMPLETED", 0.5, (0.1, 0), (0.4, 1), 0.25, 0.1],
            ...     ["save", "EPOCH_COMPLETED", 2.0, (2.0, 0), (2.0, 0), 2.0, "None"],
            ...     [
            ...         "close",
            ...         "COMPLETED",
            ...         "not triggered",
            ...         ("None", "None"),
            ...         ("None", "None"),
            ...         "None",
            ...         "None",
            ...     ],
            ...     ["Total", "", 2.5, "", "", "", ""],
            ...     ["Processing", "None", 3.5, (1.5, 0), (2.0, 1), 1.75, 0.5],
            ...     ["Dataflow", "None", 0.5, (0.25, 0), (0.25, 1), 0.25, 0.0],
            ... ]
            >>> text = HandlersTimeProfiler.print_results(results)
            handler     event                    total (s)  min/index  max/index     mean      std
            save        EPOCH_COMPLETED            2.00000  2.00000/0  2.00000/0  2.00000
            log         ITERATION_COMPLETED        0.50000  0.10000/0  0.40000/1  0.25000  0.10000
            close       COMPLETED            not triggered
            Total                                  2.50000
            Processing                             3.50000  1.50000/0  2.00000/1  1.75000  0.50000
            Dataflow                               0.50000  0.25000/0  0.25000/1  0.25000  0.00000
        """
        handlers, others = results[:-_LAST_ROWS], results[-_LAST_ROWS:]
        ordered = sorted(handlers, key=lambda row: -row[2] if isinstance(row[2], float) else 0.0)
        rows = [_HEADER, *([as_text(cell) for cell in row] for row in (*ordered, *others))]
        text = aligned(rows, text_columns=[0, 1])
        print(text)  # noqa: T201 - the purpose of the method
        return text


def _stats(times: Sequence[float]) -> list[Any]:
    found = statistics_of(times)
    if found is None:
        return ["not triggered", ("None", "None"), ("None", "None"), "None", "None"]
    return [
        found.total,
        (found.minimum, found.min_index),
        (found.maximum, found.max_index),
        found.mean,
        "None" if found.std is None else found.std,
    ]
