"""Usages: the events at which attached metrics are reset, updated and computed."""

from __future__ import annotations

from typing import Any, ClassVar

from glowplug.events import AnyEvent, CallableEventWithFilter, Events, EventsList


class MetricUsage:
    """The three events at which an attached metric is reset, updated and computed.

    To use events other than those of the predefined usages, create an instance of this class. Two usages of the same class are
    equal if their events and filters are equal.

    Args:
        started: The event at which the metric is reset.
        completed: The event at which the metric is computed and its value is published in ``engine.state.metrics``.
        iteration_completed: The event at which the metric is updated with ``engine.state.output``.

    Example:
        >>> from glowplug import Events
        >>> whole_run = MetricUsage(
        ...     started=Events.STARTED,
        ...     completed=Events.COMPLETED,
        ...     iteration_completed=Events.ITERATION_COMPLETED,
        ... )
        >>> whole_run.COMPLETED
        Events.COMPLETED
    """

    usage_name: ClassVar[str | None] = None
    """Name of this usage in ``Metric.attach(..., usage="...")``; ``None`` if it has none."""

    def __init__(self, started: AnyEvent, completed: AnyEvent, iteration_completed: AnyEvent) -> None:
        self.STARTED = started
        self.COMPLETED = completed
        self.ITERATION_COMPLETED = iteration_completed

    def _identity(self) -> tuple[Any, ...]:
        events = (self.STARTED, self.COMPLETED, self.ITERATION_COMPLETED)
        return (type(self), *map(_event_identity, events))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MetricUsage) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class EpochWise(MetricUsage):
    """One value per epoch, computed from the outputs of that epoch; the default usage of most metrics.

    Example:
        >>> EpochWise().COMPLETED
        Events.EPOCH_COMPLETED
    """

    usage_name = "epoch_wise"

    def __init__(self) -> None:
        super().__init__(Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED)


class RunningEpochWise(MetricUsage):
    """One value per epoch, computed from the last output of each epoch of the run so far.

    Example:
        >>> RunningEpochWise().ITERATION_COMPLETED
        Events.EPOCH_COMPLETED
    """

    usage_name = "running_epoch_wise"

    def __init__(self) -> None:
        super().__init__(Events.STARTED, Events.EPOCH_COMPLETED, Events.EPOCH_COMPLETED)


class BatchWise(MetricUsage):
    """One value per iteration, computed from the output of that iteration.

    Example:
        >>> BatchWise().STARTED
        Events.ITERATION_STARTED
    """

    usage_name = "batch_wise"

    def __init__(self) -> None:
        super().__init__(Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class RunningBatchWise(MetricUsage):
    """One value per iteration, computed from all outputs of the run so far.

    Example:
        >>> RunningBatchWise().STARTED
        Events.STARTED
    """

    usage_name = "running_batch_wise"

    def __init__(self) -> None:
        super().__init__(Events.STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class SingleEpochRunningBatchWise(MetricUsage):
    """One value per iteration, computed from the outputs of the current epoch so far.

    Example:
        >>> SingleEpochRunningBatchWise().STARTED
        Events.EPOCH_STARTED
    """

    usage_name = "single_epoch_running_batch_wise"

    def __init__(self) -> None:
        super().__init__(Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class BatchFiltered(MetricUsage):
    """One value per epoch, computed from the outputs of the iterations that pass a filter.

    Args:
        *args: Positional arguments of ``Events.ITERATION_COMPLETED(...)``, in the order ``event_filter``, ``every``, ``once``,
            ``before``, ``after``.
        **kwargs: Keyword arguments of ``Events.ITERATION_COMPLETED(...)``.

    Example:
        >>> BatchFiltered(every=2).ITERATION_COMPLETED
        Events.ITERATION_COMPLETED(every=2)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED(*args, **kwargs)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(at {self.ITERATION_COMPLETED!r})"


_NAMED: dict[str, MetricUsage] = {
    usage.usage_name: usage
    for usage in (
        EpochWise(),
        RunningEpochWise(),
        BatchWise(),
        RunningBatchWise(),
        SingleEpochRunningBatchWise(),
    )
}


def as_usage(usage: str | MetricUsage) -> MetricUsage:
    """Return the usage with the given name; a usage object is returned unchanged.

    Raises:
        ValueError: If the name is unknown.
        TypeError: If ``usage`` is neither a string nor a :class:`MetricUsage`.

    Example:
        >>> as_usage("batch_wise")
        BatchWise()
    """
    if isinstance(usage, MetricUsage):
        return usage
    if not isinstance(usage, str):
        raise TypeError(f"usage must be a usage name or a MetricUsage, such as EpochWise(); got {usage!r}")
    if usage not in _NAMED:
        raise ValueError(f"usage must be one of {', '.join(_NAMED)} or a MetricUsage, got {usage!r}")
    return _NAMED[usage]


def _event_identity(event: AnyEvent) -> object:
    # A filtered event equals the plain one, so the filter must be compared too.
    if isinstance(event, EventsList):
        return tuple(map(_event_identity, event))
    return (event.event, event.filter) if isinstance(event, CallableEventWithFilter) else event
