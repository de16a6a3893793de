"""Decorators that reduce a metric's attributes over ranks, or clear its cached result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from glowplug.distributed import REDUCE_OPS, all_gather, all_reduce, world_size

_P = ParamSpec("_P")
_R = TypeVar("_R")


def sync_all_reduce(
    *attributes: str,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator for ``compute`` that reduces attributes of the metric over all ranks before each call.

    With one process, the decorated method runs unchanged. With several processes, each attribute is reduced over all ranks
    before the method runs. When the method returns, the rank's own values are restored, so later updates stay correct.
    An attribute can be a number or scalar tensor on one rank and a larger tensor on another, for example because one rank has not
    run any update. In this case, the number or scalar is expanded to the shape of the larger tensor. If the dtypes differ between
    ranks, the values are converted to a common dtype.

    Args:
        *attributes: Names of attributes that hold a number or a tensor. To choose an operation, append a colon and the
            operation to the name, as in ``"smallest:MIN"``. The operations are ``SUM`` (the default), ``PRODUCT``, ``MIN`` and
            ``MAX``.

    Raises:
        ValueError: If an operation is unknown. The decorated method raises this error if the metric lacks one of the attributes,
            or if an attribute has different shapes on different ranks.
        TypeError: The decorated method raises this error if an attribute is neither a number nor a tensor.

    Example:
        >>> from glowplug.metrics import Metric
        >>> class Count(Metric):
        ...     def reset(self):
        ...         self.count = 0
        ...
        ...     def update(self, output):
        ...         self.count += 1
        ...
        ...     @sync_all_reduce("count")
        ...     def compute(self):
        ...         return self.count
        >>> Count().compute()
        0
    """
    operations = dict(_parsed(attribute) for attribute in attributes)

    def decorate(compute: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(compute)
        def reduced(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if world_size() == 1:
                return compute(*args, **kwargs)
            metric: Any = args[0]
            own = {name: _reducible(metric, name) for name in operations}
            try:
                for name, value in _alike(metric, own).items():
                    setattr(metric, name, all_reduce(value, operations[name]))
                return compute(*args, **kwargs)
            finally:
                for name, value in own.items():
                    setattr(metric, name, value)

        return reduced

    return decorate


def reinit__is_reduced(
    method: Callable[_P, _R],
) -> Callable[_P, _R]:
    """Decorate ``reset`` or ``update`` so that each call clears the metric's cached ``_result``.

    Example:
        >>> from glowplug.metrics import Metric
        >>> class Slow(Metric):
        ...     @reinit__is_reduced
        ...     def reset(self):
        ...         self.data = []
        ...
        ...     @reinit__is_reduced
        ...     def update(self, output):
        ...         self.data.append(output)
        ...
        ...     def compute(self):
        ...         if self._result is None:
        ...             self._result = sorted(self.data)
        ...         return self._result
        >>> metric = Slow()
        >>> metric.update(2)
        >>> metric.compute()
        [2]
    """

    @functools.wraps(method)
    def changing(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        metric: Any = args[0]
        metric._result = None  # noqa: SLF001 - subclasses use this name
        return method(*args, **kwargs)

    return changing


def _parsed(attribute: str) -> tuple[str, str]:
    name, _, operation = attribute.partition(":")
    if operation and operation not in REDUCE_OPS:
        raise ValueError(
            f"sync_all_reduce({attribute!r}): the operation must be one of {', '.join(REDUCE_OPS)}, got {operation!r}"
        )
    return name, operation or "SUM"


def _reducible(metric: Any, name: str) -> torch.Tensor | float:
    if name not in vars(metric):
        raise ValueError(
            f"sync_all_reduce: {type(metric).__name__} has no attribute {name!r}; set this attribute in reset()"
        )
    value = vars(metric)[name]
    if not isinstance(value, (torch.Tensor, int, float)):
        raise TypeError(
            f"{type(metric).__name__}.{name} is reduced over ranks and must be a number or a tensor, got {type(value).__name__}"
        )
    return value


def _alike(metric: Any, own: dict[str, torch.Tensor | float]) -> dict[str, torch.Tensor | float]:
    """Return the values, each converted to a shape and dtype that are the same on all ranks."""
    forms = all_gather({name: _form(value) for name, value in own.items()})
    return {
        name: _in_form_of(metric, name, value, [of_rank[name] for of_rank in forms])
        for name, value in own.items()
    }


def _form(value: torch.Tensor | float) -> tuple[torch.dtype, tuple[int, ...], bool]:
    """Return the dtype and shape of a value, and whether it is a tensor."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), True
    return torch.int64 if isinstance(value, int) else torch.float64, (), False


def _in_form_of(
    metric: Any,
    name: str,
    value: torch.Tensor | float,
    forms: list[tuple[torch.dtype, tuple[int, ...], bool]],
) -> torch.Tensor | float:
    if all(form == forms[0] for form in forms):
        return value
    shapes = {shape for _, shape, _ in forms} - {()}
    if len(shapes) > 1:
        raise ValueError(
            f"{type(metric).__name__}.{name} has different shapes on the ranks and cannot be reduced: {sorted(shapes)}"
        )
    dtype = functools.reduce(torch.promote_types, (dtype for dtype, _, _ in forms))
    device = value.device if isinstance(value, torch.Tensor) else metric.device
    return torch.as_tensor(value, dtype=dtype, device=device).expand(*shapes or [()]).clone()
