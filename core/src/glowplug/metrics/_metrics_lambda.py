"""Functions of other metrics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import chain
from typing import Any, Literal

import torch

from glowplug.handles import RemovableEventHandle
from glowplug.metrics._metric import Metric
from glowplug.metrics._usage import MetricUsage
from glowplug.typing import EngineProtocol


class MetricsLambda(Metric):
    """A function of other metrics, as returned by arithmetic on metrics.

    When it is attached to an engine, the engine resets and updates the component metrics but publishes only the value of the
    function. To publish a component as well, attach the component with the same usage.

    Args:
        f: Function of the values, called at each compute. Tensors are moved to the CPU first.
        *args: Arguments of ``f``. Component metrics among them are replaced by their values.
        skip_unrolling: See :class:`Metric`; each component uses its own setting.
        metrics_result_mode: See :class:`Metric`.
        **kwargs: Keyword arguments of ``f``, treated in the same way.

    Raises:
        TypeError: If ``f`` is not callable, or if an argument is a metric of another library.

    Example:
        >>> from glowplug import Engine
        >>> class Total(Metric):
        ...     def reset(self):
        ...         self.value = 0
        ...
        ...     def update(self, output):
        ...         self.value += output
        ...
        ...     def compute(self):
        ...         return self.value
        >>> total, count = Total(), Total(output_transform=lambda _: 1)
        >>> engine = Engine(lambda engine, batch: batch)
        >>> _ = (total / count).attach(engine, "mean")
        >>> engine.run([1, 2, 6]).metrics
        {'mean': 3.0}
    """

    _state_dict_all_req_keys = ("leaves",)

    def __init__(
        self,
        f: Callable[..., Any],
        *args: Any,
        skip_unrolling: bool = False,
        metrics_result_mode: Literal["flatten", "named", "both"] = "both",
        **kwargs: Any,
    ) -> None:
        if not callable(f):
            raise TypeError(f"f must be callable, got {f!r}")
        for value in (*args, *kwargs.values()):
            if hasattr(value, "compute") and not isinstance(value, Metric):
                raise TypeError(
                    f"{type(value).__name__} is not a glowplug metric; wrap a torchmetrics metric with TorchMetric(metric) from "
                    "glowplug-torchmetrics"
                )
        self.function = f
        # Metric.__init__ calls reset(), which must not discard the data of the given metrics.
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        super().__init__(skip_unrolling=skip_unrolling, metrics_result_mode=metrics_result_mode)
        self.args, self.kwargs = args, kwargs

    @property
    def leaves(self) -> list[Metric]:
        """The component metrics that hold data, without duplicates."""
        given = (value for value in chain(self.args, self.kwargs.values()) if isinstance(value, Metric))
        leaves = chain.from_iterable(m.leaves if isinstance(m, MetricsLambda) else [m] for m in given)
        return list({id(leaf): leaf for leaf in leaves}.values())

    def reset(self) -> None:
        """Reset the component metrics."""
        self._updated_by_hand = False
        for leaf in self.leaves:
            leaf.reset()

    def update(self, output: Any) -> None:
        """Update each component metric once.

        Args:
            output: Argument of each component's ``update``. The ``output_transform`` of a component is not applied.

        Raises:
            ValueError: If the metric is attached, because its engine updates the components.
        """
        if self.attached_engines():
            raise ValueError(
                "this MetricsLambda is attached to an engine, which updates its components; detach it before calling update()"
            )
        self._updated_by_hand = True
        for leaf in self.leaves:
            leaf.update(output)

    def compute(self) -> Any:
        """Return ``f`` applied to the current values."""
        return self.function(
            *map(_value, self.args), **{name: _value(value) for name, value in self.kwargs.items()}
        )

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Reset and update the component metrics; see :meth:`Metric.feed`.

        Raises:
            ValueError: If :meth:`update` was called directly since the last reset; see also :meth:`Metric.feed`.
        """
        if self._updated_by_hand:
            raise ValueError(
                "this MetricsLambda holds data from direct calls of update(); call reset() before attach()"
            )
        usage = self.usage_or_default(usage)
        with ExitStack() as fed:
            for leaf in self.leaves:
                fed.enter_context(leaf.feed(engine, usage))
            return RemovableEventHandle(fed.pop_all().close)


def _value(argument: Any) -> Any:
    value = argument.compute() if isinstance(argument, Metric) else argument
    return value.cpu() if isinstance(value, torch.Tensor) else value
