"""Arithmetic on metrics: each operator gives a :class:`~glowplug.metrics_lambda.MetricsLambda`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowplug.metrics_lambda import MetricsLambda


class MetricArithmetic:
    """What a metric gains from Python's operators, and :meth:`map` for everything else (M-040 to M-043)."""

    # numpy's scalars and arrays on the left of an operator leave it to the metric.
    __array_ufunc__ = None

    def map(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> MetricsLambda:
        """Return a metric whose value is ``function(value of this one, *args, **kwargs)``.

        Args:
            function: called at each compute.
            *args: further arguments: constants, or metrics, which stand for their values.
            **kwargs: the same by name.

        Example:
            >>> from glowplug.metric import Metric
            >>> class Largest(Metric):
            ...     def reset(self):
            ...         self.value = 0
            ...
            ...     def update(self, output):
            ...         self.value = max(self.value, output)
            ...
            ...     def compute(self):
            ...         return self.value
            >>> percent = Largest().map(lambda value: f"{value:.0%}")
            >>> percent.update(0.5)
            >>> percent.compute()
            '50%'
        """
        from glowplug.metrics_lambda import MetricsLambda

        return MetricsLambda(function, self, *args, **kwargs)

    def __getitem__(self, index: Any) -> MetricsLambda:
        return self.map(operator.getitem, index)

    # With __getitem__ alone, Python would try to iterate over 0, 1, 2, ... for ever.
    __iter__ = None

    def __add__(self, other: Any) -> MetricsLambda:
        return self.map(operator.add, other)

    def __radd__(self, other: Any) -> MetricsLambda:
        return self.map(_reflected(operator.add), other)

    def __sub__(self, other: Any) -> MetricsLambda:
        return self.map(operator.sub, other)

    def __rsub__(self, other: Any) -> MetricsLambda:
        return self.map(_reflected(operator.sub), other)

    def __mul__(self, other: Any) -> MetricsLambda:
        return self.map(operator.mul, other)

    def __rmul__(self, other: Any) -> MetricsLambda:
        return self.map(_reflected(operator.mul), other)

    def __truediv__(self, other: Any) -> MetricsLambda:
        return self.map(operator.truediv, other)

    def __rtruediv__(self, other: Any) -> MetricsLambda:
        return self.map(_reflected(operator.truediv), other)

    def __floordiv__(self, other: Any) -> MetricsLambda:
        return self.map(operator.floordiv, other)

    def __rfloordiv__(self, other: Any) -> MetricsLambda:
        return self.map(_reflected(operator.floordiv), other)

    def __mod__(self, other: Any) -> MetricsLambda:
        return self.map(operator.mod, other)

    def __rmod__(self, other: Any) -> MetricsLambda:
        return self.map(_reflected(operator.mod), other)

    def __pow__(self, other: Any) -> MetricsLambda:
        return self.map(operator.pow, other)

    def __rpow__(self, other: Any) -> MetricsLambda:
        return self.map(_reflected(operator.pow), other)

    def __neg__(self) -> MetricsLambda:
        return self.map(operator.neg)

    def __abs__(self) -> MetricsLambda:
        return self.map(operator.abs)


class _reflected:  # noqa: N801 - used as a function; a class so that it can be pickled and compared
    """A binary operator with its arguments swapped."""

    def __init__(self, operation: Callable[[Any, Any], Any]) -> None:
        self.operation = operation

    def __call__(self, right: Any, left: Any) -> Any:
        return self.operation(left, right)

    def __repr__(self) -> str:
        return f"reflected {self.operation.__name__}"
