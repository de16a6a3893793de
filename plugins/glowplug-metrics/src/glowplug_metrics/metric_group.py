"""MetricGroup: several metrics attached as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from glowplug import EventsList, Metric, MetricsLambda, MetricUsage, RemovableEventHandle, identity
from glowplug.typing import EngineProtocol
from glowplug_metrics.classification_metric import by_input, update_together

__all__ = ["MetricGroup"]


class MetricGroup(Metric):
    """Several metrics that share the preparation of the engine's output.

    Attached, it publishes the value of each metric under that metric's name, and a dictionary of all under its own.

    Args:
        metrics: The metrics by name; arithmetic on metrics may be among them, and its parts too: each metric takes each
            output once. They belong to the group, and cannot be attached beside it.
        output_transform: Makes of the engine's output what each metric's own ``output_transform`` gets. A mapping that it
            returns is reduced to ``(y_pred, y)``.
        skip_unrolling: See ``glowplug.Metric``; it is the group that takes lists of samples apart, not its metrics.

    Raises:
        TypeError: If ``metrics`` is not a mapping of names to metrics.
        ValueError: At ``attach``: one of the metrics is in use by itself or in another group.

    Example:
        >>> from glowplug import Engine
        >>> from glowplug_metrics import Average
        >>> engine = Engine(lambda engine, batch: {"loss": batch, "size": 4})
        >>> averages = {"loss": Average(), "half": Average(output_transform=lambda loss: loss / 2)}
        >>> _ = MetricGroup(averages, output_transform=lambda output: output["loss"]).attach(
        ...     engine, "averages"
        ... )
        >>> metrics = engine.run([1.0, 5.0]).metrics
        >>> {name: float(metrics[name]) for name in ("loss", "half")}
        {'loss': 3.0, 'half': 1.5}
    """

    _state_dict_all_req_keys = ("metrics",)

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        output_transform: Callable[[Any], Any] = identity,
        skip_unrolling: bool = False,
    ) -> None:
        if not isinstance(metrics, Mapping):
            raise TypeError(
                f"metrics must be a dictionary of name: metric, got a {type(metrics).__name__}; with names for its "
                "metrics the group can publish each value"
            )
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise TypeError(
                    f"the metric {name!r} of the group is a {type(metric).__name__}, not a Metric"
                )
        self.metrics = dict(metrics)
        # What a combination is made of, in the place of the combination.
        self._members = MetricsLambda(dict, *self.metrics.values()).leaves
        self._by_input = by_input(self._members)
        super().__init__(output_transform, skip_unrolling=skip_unrolling)

    def reset(self) -> None:
        """Reset all metrics."""
        for member in self._members:
            member.reset()

    def update(self, output: Any) -> None:
        """Update all metrics.

        Args:
            output: What the metrics' own ``output_transform`` takes.
        """
        for members in self._by_input:
            update_together(members, members[0].transformed(output))

    def compute(self) -> dict[str, Any]:
        """Return the value of each metric by its name.

        Raises:
            NotComputableError: If one of them has had no data.
        """
        return {name: metric.compute() for name, metric in self.metrics.items()}

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Let an engine reset and update the group, and nobody else its metrics; see ``glowplug.Metric.feed``."""
        usage = self.usage_or_default(usage)
        with ExitStack() as fed:
            for member in self._members:
                fed.enter_context(member.feed(engine, _MemberOfGroup(usage, self)))
            fed.enter_context(super().feed(engine, usage))
            return RemovableEventHandle(fed.pop_all().close)


class _MemberOfGroup(MetricUsage):
    """How a group uses its metrics: it resets and updates them itself, at no event of their own."""

    def __init__(self, usage: MetricUsage, group: MetricGroup) -> None:
        self._group = group
        super().__init__(EventsList(), usage.COMPLETED, EventsList())

    def _identity(self) -> tuple[Any, ...]:
        return (*super()._identity(), id(self._group))

    def __repr__(self) -> str:
        return "a member of a MetricGroup"
