"""Metrics made of other metrics."""

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

__all__ = ["MetricsLambda"]


class MetricsLambda(Metric):
    """A metric whose value is a function of the values of others; what arithmetic on metrics returns.

    Attached, it makes its engine reset and update the metrics it is made of, and publishes only its own value; attach
    one of them too, with the same usage, to see its value as well.

    Args:
        f: Called with the values at each compute. Tensors come on the CPU.
        *args: Metrics, which stand for their values, and constants.
        skip_unrolling: See :class:`Metric`; that of each part counts for its own updates.
        metrics_result_mode: See :class:`Metric`.
        **kwargs: The same as ``args``, by name.

    Raises:
        TypeError: If ``f`` cannot be called, or an argument is a metric of another library.

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
            raise TypeError(
                f"MetricsLambda calls f with the values of its metrics, which {f!r} does not allow"
            )
        for value in (*args, *kwargs.values()):
            if hasattr(value, "compute") and not isinstance(value, Metric):
                raise TypeError(
                    f"a {type(value).__name__} is no metric of glowplug, and would be taken for a constant; of one of "
                    "torchmetrics, glowplug-torchmetrics makes one: TorchMetric(metric)"
                )
        self.function = f
        # The constructor of Metric resets; the metrics this one is made of may hold data, and keep it.
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        super().__init__(skip_unrolling=skip_unrolling, metrics_result_mode=metrics_result_mode)
        self.args, self.kwargs = args, kwargs

    @property
    def leaves(self) -> list[Metric]:
        """The metrics this one is made of in the end, each once: those that hold data."""
        given = (value for value in chain(self.args, self.kwargs.values()) if isinstance(value, Metric))
        leaves = chain.from_iterable(m.leaves if isinstance(m, MetricsLambda) else [m] for m in given)
        return list({id(leaf): leaf for leaf in leaves}.values())

    def reset(self) -> None:
        """Reset the metrics this one is made of."""
        self._updated_by_hand = False
        for leaf in self.leaves:
            leaf.reset()

    def update(self, output: Any) -> None:
        """Update the metrics this one is made of, each once.

        Args:
            output: What each of them takes; their ``output_transform`` is not applied.

        Raises:
            ValueError: If the metric is attached, and its engine updates them.
        """
        if self.attached_engines():
            raise ValueError(
                "this MetricsLambda is attached, and its engine updates the metrics it is made of; detach it first to "
                "call update() by hand"
            )
        self._updated_by_hand = True
        for leaf in self.leaves:
            leaf.update(output)

    def compute(self) -> Any:
        """Return the function's value for the present values of the metrics."""
        args = [_value(value) for value in self.args]
        return self.function(*args, **{name: _value(value) for name, value in self.kwargs.items()})

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Let an engine reset and update the metrics this one is made of; see :meth:`Metric.feed`.

        Raises:
            ValueError: :meth:`update` has been called by hand since the last reset; see also :meth:`Metric.feed`.
        """
        if self._updated_by_hand:
            raise ValueError(
                "this MetricsLambda holds what update() was given by hand, to which an engine would add its own data; "
                "call reset() before attach()"
            )
        usage = self.usage_or_default(usage)
        with ExitStack() as fed:
            for leaf in self.leaves:
                fed.enter_context(leaf.feed(engine, usage))
            return RemovableEventHandle(fed.pop_all().close)


def _value(argument: Any) -> Any:
    value = argument.compute() if isinstance(argument, Metric) else argument
    return value.cpu() if isinstance(value, torch.Tensor) else value
