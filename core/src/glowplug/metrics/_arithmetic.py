"""Arithmetic on metrics: each operator returns a :class:`~glowplug.metrics.MetricsLambda`.

The tensor methods below also return one. They are common in formulas over per-class values and confusion matrices; for
other functions, use ``map``. Any other attribute raises AttributeError, so ``hasattr`` works, and a typo is reported before
the first compute. ``to``, ``cpu`` and ``float`` are omitted because they seem to change the metric itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowplug.metrics._metrics_lambda import MetricsLambda


def _binary(operation: Callable[[Any, Any], Any]) -> Callable[[MetricArithmetic, Any], MetricsLambda]:
    """Return the method that implements a binary operator."""

    def method(self: MetricArithmetic, other: Any) -> MetricsLambda:
        return self.map(operation, other)

    return method


def _swapped(operation: Callable[[Any, Any], Any], right: Any, left: Any) -> Any:
    """Apply a binary operator whose right operand is the metric's value."""
    return operation(left, right)


class MetricArithmetic:
    """Operators and tensor methods of metrics, and :meth:`map` for other functions.

    Example:
        >>> import torch
        >>> from glowplug.metrics import Metric
        >>> class Matrix(Metric):
        ...     def reset(self):
        ...         self.value = torch.zeros(2, 2)
        ...
        ...     def update(self, output):
        ...         self.value += output
        ...
        ...     def compute(self):
        ...         return self.value
        >>> matrix = Matrix()
        >>> share = matrix.diag().sum() / matrix.sum()
        >>> matrix.update(torch.tensor([[5, 1], [1, 3]]))
        >>> share.compute()
        tensor(0.8000)
    """

    # Make NumPy scalars and arrays on the left of an operator defer to the metric.
    __array_ufunc__ = None

    def map(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> MetricsLambda:
        """Return a metric whose value is a function of this metric's value.

        Args:
            function: Called as ``function(value, *args, **kwargs)`` at each compute.
            *args: Further arguments; metrics among them are replaced by their values.
            **kwargs: Further keyword arguments, treated in the same way.

        Example:
            >>> from glowplug.metrics import Metric
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
        from glowplug.metrics._metrics_lambda import MetricsLambda

        return MetricsLambda(function, self, *args, **kwargs)

    __getitem__ = _binary(operator.getitem)
    # Without this, Python would iterate by calling __getitem__ with 0, 1, 2, ... endlessly.
    __iter__ = None

    __add__ = _binary(operator.add)
    __radd__ = _binary(partial(_swapped, operator.add))
    __sub__ = _binary(operator.sub)
    __rsub__ = _binary(partial(_swapped, operator.sub))
    __mul__ = _binary(operator.mul)
    __rmul__ = _binary(partial(_swapped, operator.mul))
    __truediv__ = _binary(operator.truediv)
    __rtruediv__ = _binary(partial(_swapped, operator.truediv))
    __floordiv__ = _binary(operator.floordiv)
    __rfloordiv__ = _binary(partial(_swapped, operator.floordiv))
    __mod__ = _binary(operator.mod)
    __rmod__ = _binary(partial(_swapped, operator.mod))
    __pow__ = _binary(operator.pow)
    __rpow__ = _binary(partial(_swapped, operator.pow))
    __matmul__ = _binary(operator.matmul)
    __rmatmul__ = _binary(partial(_swapped, operator.matmul))

    def __neg__(self) -> MetricsLambda:
        return self.map(operator.neg)

    def __abs__(self) -> MetricsLambda:
        return self.map(operator.abs)

    # Methods of tensors

    def mean(self, *args: Any, **kwargs: Any) -> MetricsLambda:
        """Return a metric for the mean over the given dimensions; by default, over all."""
        return self.map(_Method("mean"), *args, **kwargs)

    def sum(self, *args: Any, **kwargs: Any) -> MetricsLambda:
        """Return a metric for the sum over the given dimensions; by default, over all."""
        return self.map(_Method("sum"), *args, **kwargs)

    def min(self, *args: Any, **kwargs: Any) -> MetricsLambda:
        """Return a metric for the smallest element; arguments as for ``torch.Tensor.min``."""
        return self.map(_Method("min"), *args, **kwargs)

    def max(self, *args: Any, **kwargs: Any) -> MetricsLambda:
        """Return a metric for the largest element; arguments as for ``torch.Tensor.max``."""
        return self.map(_Method("max"), *args, **kwargs)

    def std(self, *args: Any, **kwargs: Any) -> MetricsLambda:
        """Return a metric for the standard deviation over the given dimensions; by default, over all."""
        return self.map(_Method("std"), *args, **kwargs)

    def clamp(self, *args: Any, **kwargs: Any) -> MetricsLambda:
        """Return a metric with each element clamped; arguments as for ``torch.Tensor.clamp``."""
        return self.map(_Method("clamp"), *args, **kwargs)

    def diag(self, diagonal: int = 0) -> MetricsLambda:
        """Return a metric for the diagonal of a matrix; for a vector, the matrix with this diagonal."""
        return self.map(_Method("diag"), diagonal)

    def trace(self) -> MetricsLambda:
        """Return a metric for the sum of the diagonal."""
        return self.map(_Method("trace"))

    def sqrt(self) -> MetricsLambda:
        """Return a metric for the square root of each element."""
        return self.map(_Method("sqrt"))

    def pow(self, exponent: Any) -> MetricsLambda:
        """Return a metric with each element raised to a power."""
        return self.map(_Method("pow"), exponent)

    def exp(self) -> MetricsLambda:
        """Return a metric for the exponential of each element."""
        return self.map(_Method("exp"))

    def log(self) -> MetricsLambda:
        """Return a metric for the natural logarithm of each element."""
        return self.map(_Method("log"))

    def item(self) -> MetricsLambda:
        """Return a metric whose value is the single element as a Python number."""
        return self.map(_Method("item"))

    def tolist(self) -> MetricsLambda:
        """Return a metric whose value is a nested list of Python numbers."""
        return self.map(_Method("tolist"))


class _Method:
    """Function that calls a tensor method on a metric's value.

    A number is first converted to a scalar tensor.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, (int, float)):
            import torch

            value = torch.tensor(value, dtype=torch.float64)
        return getattr(value, self.name)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"method {self.name}"
