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
    """Attach several metrics together, with one shared ``output_transform``.

    An attached group publishes the value of each metric under the metric's name, and a dictionary of all values under the
    group's name.

    Args:
        metrics: Mapping of names to metrics. If several expressions, such as ``a + b`` and ``a / c``, contain the same metric,
            this metric is still updated only once per output. Metrics of a group cannot be attached separately.
        output_transform: Converts the engine's output before each metric applies its own ``output_transform``. If the result is
            a mapping, the metrics receive only its values ``y_pred`` and ``y``, as a tuple.
        skip_unrolling: See :class:`glowplug.Metric`. The ``skip_unrolling`` of the metrics in the group has no effect.

    Raises:
        TypeError: If ``metrics`` is not a mapping of names to metrics.
        ValueError: ``attach`` raises this error if one of the metrics is already attached separately or in another group.

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
                f"metrics must be a dictionary that maps names to metrics, got {type(metrics).__name__}"
            )
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise TypeError(f"metric {name!r} of the group must be a Metric, got {type(metric).__name__}")
        self.metrics = dict(metrics)
        # For an expression, the members are its operands, not the expression itself.
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
            output: The output that is passed to the ``output_transform`` of each metric.
        """
        for members in self._by_input:
            update_together(members, members[0].transformed(output))

    def compute(self) -> dict[str, Any]:
        """Return a dictionary that maps the names of the metrics to their values.

        Raises:
            NotComputableError: If one of the metrics has no data.
        """
        return {name: metric.compute() for name, metric in self.metrics.items()}

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Let the engine reset and update the group and its metrics; see :meth:`glowplug.metrics.Metric.feed`."""
        usage = self.usage_or_default(usage)
        with ExitStack() as fed:
            for member in self._members:
                fed.enter_context(member.feed(engine, _MemberOfGroup(usage, self)))
            fed.enter_context(super().feed(engine, usage))
            return RemovableEventHandle(fed.pop_all().close)


class _MemberOfGroup(MetricUsage):
    """Usage of metrics that are reset and updated by their group."""

    def __init__(self, usage: MetricUsage, group: MetricGroup) -> None:
        self._group = group
        super().__init__(EventsList(), usage.COMPLETED, EventsList())

    def _identity(self) -> tuple[Any, ...]:
        return (*super()._identity(), id(self._group))

    def __repr__(self) -> str:
        return "a member of a MetricGroup"
