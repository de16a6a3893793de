"""Arithmetic on metrics: each operator returns a :class:`~glowplug.metrics.MetricsLambda`.

The tensor methods in this module also return a ``MetricsLambda``. These methods are common in formulas that use per-class
values or confusion matrices. For other functions, use ``map``. Reading an attribute that a metric does not define raises
``AttributeError``. As a result, ``hasattr`` works, and a misspelled method name is reported before the first compute. The
tensor methods ``to``, ``cpu`` and ``float`` are omitted because a call such as ``metric.cpu()`` would seem to change the metric
itself.
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
    """Operators and tensor methods for metrics; :meth:`map` applies any other function.

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
            function: Function that is called as ``function(value, *args, **kwargs)`` at each compute.
            *args: Further arguments of the function; each metric among them is replaced by its value.
            **kwargs: Keyword arguments of the function; each metric among them is replaced by its value.

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
        """Return a metric whose value is the mean over the given dimensions; the default is all dimensions."""
        return self.map(_Method("mean"), *args, **kwargs)

    def sum(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric whose value is the sum over the given dimensions; the default is all dimensions."""
        return self.map(_Method("sum"), *args, **kwargs)

    def min(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric whose value is the smallest element; the arguments are the same as for ``torch.Tensor.min``."""
        return self.map(_Method("min"), *args, **kwargs)

    def max(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric whose value is the largest element; the arguments are the same as for ``torch.Tensor.max``."""
        return self.map(_Method("max"), *args, **kwargs)

    def std(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric whose value is the standard deviation over the given dimensions; the default is all dimensions."""
        return self.map(_Method("std"), *args, **kwargs)

    def clamp(self, *args: Any, **kwargs: Any) -> Combined:
        """Return a metric whose value is clamped elementwise; the arguments are the same as for ``torch.Tensor.clamp``."""
        return self.map(_Method("clamp"), *args, **kwargs)

    def diag(self, diagonal: int = 0) -> Combined:
        """Return a metric whose value is the diagonal of a matrix, or the diagonal matrix of a vector."""
        return self.map(_Method("diag"), diagonal)

    def trace(self) -> Combined:
        """Return a metric whose value is the sum of the diagonal."""
        return self.map(_Method("trace"))

    def sqrt(self) -> Combined:
        """Return a metric whose value is the square root of each element."""
        return self.map(_Method("sqrt"))

    def pow(self, exponent: Any) -> Combined:
        """Return a metric whose value is each element raised to a power."""
        return self.map(_Method("pow"), exponent)

    def exp(self) -> Combined:
        """Return a metric whose value is the exponential of each element."""
        return self.map(_Method("exp"))

    def log(self) -> Combined:
        """Return a metric whose value is the natural logarithm of each element."""
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
