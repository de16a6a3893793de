"""Arithmetic on metrics: each operator returns a :class:`~glowplug.metrics.MetricsLambda`.

The tensor methods below also return one. They are common in formulas over per-class values and confusion matrices; for
other functions, use ``map``. Any other attribute raises AttributeError, so ``hasattr`` works, and a typo is reported before
the first compute. ``to``, ``cpu`` and ``float`` are omitted because they seem to change the metric itself.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

Combined = TypeVar("Combined")


def _swapped(operation: Callable[[Any, Any], Any], right: Any, left: Any) -> Any:
    """Apply a binary operator whose right operand is the metric's value."""
    return operation(left, right)


class MetricArithmetic(Generic[Combined]):
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

    @abstractmethod
    def map(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Combined:
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

    def __getitem__(self, key: Any) -> Combined:
        return self.map(operator.getitem, key)

    # Without this, Python would iterate by calling __getitem__ with 0, 1, 2, ... endlessly.
    __iter__ = None

    def __add__(self, other: Any) -> Combined:
        return self.map(operator.add, other)

    def __radd__(self, other: Any) -> Combined:
        return self.map(partial(_swapped, operator.add), other)

    def __sub__(self, other: Any) -> Combined:
        return self.map(operator.sub, other)

    def __rsub__(self, other: Any) -> Combined:
        return self.map(partial(_swapped, operator.sub), other)

    def __mul__(self, other: Any) -> Combined:
        return self.map(operator.mul, other)

    def __rmul__(self, other: Any) -> Combined:
        return self.map(partial(_swapped, operator.mul), other)

    def __truediv__(self, other: Any) -> Combined:
        return self.map(operator.truediv, other)

    def __rtruediv__(self, other: Any) -> Combined:
        return self.map(partial(_swapped, operator.truediv), other)

    def __floordiv__(self, other: Any) -> Combined:
        return self.map(operator.floordiv, other)

    def __rfloordiv__(self, other: Any) -> Combined:
        return self.map(partial(_swapped, operator.floordiv), other)

    def __mod__(self, other: Any) -> Combined:
        return self.map(operator.mod, other)

    def __rmod__(self, other: Any) -> Combined:
        return self.map(partial(_swapped, operator.mod), other)

    def __pow__(self, other: Any) -> Combined:
        return self.map(operator.pow, other)

    def __rpow__(self, other: Any) -> Combined:
        return self.map(partial(_swapped, operator.pow), other)

    def __matmul__(self, other: Any) -> Combined:
        return self.map(operator.matmul, other)

    def __rmatmul__(self, other: Any) -> Combined:
        return self.map(partial(_swapped, operator.matmul), other)

    def __neg__(self) -> Combined:
        return self.map(operator.neg)

    def __abs__(self) -> Combined:
        return self.map(operator.abs)

    # Methods of tensors

    def mean(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric for the mean over the given dimensions, by default all of them."""
        return self.map(_Method("mean"), *args, **kwargs)

    def sum(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric for the sum over the given dimensions, by default all of them."""
        return self.map(_Method("sum"), *args, **kwargs)

    def min(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric for the smallest element; arguments as for ``torch.Tensor.min``."""
        return self.map(_Method("min"), *args, **kwargs)

    def max(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric for the largest element; arguments as for ``torch.Tensor.max``."""
        return self.map(_Method("max"), *args, **kwargs)

    def std(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric for the standard deviation over the given dimensions, by default all of them."""
        return self.map(_Method("std"), *args, **kwargs)

    def clamp(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric with each element clamped; arguments as for ``torch.Tensor.clamp``."""
        return self.map(_Method("clamp"), *args, **kwargs)

    def diag(self, diagonal: int = 0) -> Combined:
        """Return a metric for the diagonal of a matrix; for a vector, the matrix with this diagonal."""
        return self.map(_Method("diag"), diagonal)

    def trace(self) -> Combined:
        """Return a metric for the sum of the diagonal."""
        return self.map(_Method("trace"))

    def sqrt(self) -> Combined:
        """Return a metric for the square root of each element."""
        return self.map(_Method("sqrt"))

    def pow(self, exponent: Any) -> Combined:
        """Return a metric with each element raised to a power."""
        return self.map(_Method("pow"), exponent)

    def exp(self) -> Combined:
        """Return a metric for the exponential of each element."""
        return self.map(_Method("exp"))

    def log(self) -> Combined:
        """Return a metric for the natural logarithm of each element."""
        return self.map(_Method("log"))

    def item(self) -> Combined:
        """Return a metric whose value is the single element as a Python number."""
        return self.map(_Method("item"))

    def tolist(self) -> Combined:
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
