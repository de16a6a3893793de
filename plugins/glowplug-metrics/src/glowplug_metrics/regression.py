"""Mean absolute, mean squared and root mean squared error."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch

from glowplug import Metric, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.batch import split_output
from glowplug_metrics.summation import summand, wide_dtype

__all__ = ["MeanAbsoluteError", "MeanSquaredError", "RootMeanSquaredError", "difference"]


def difference(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return ``y_pred - y`` as a float tensor.

    Integers of any size and floats of fewer than 32 bits are first converted to the type that :func:`wide_dtype` returns.

    Args:
        y_pred: Predictions of shape (N, ...).
        y: Targets of the same shape. When the shapes are compared, dimensions of size 1 after the first dimension are ignored.

    Returns:
        A tensor with the shape of ``y_pred``, detached from the graph.

    Raises:
        ValueError: If the shapes do not match.

    Example:
        >>> difference(torch.tensor([[1.0], [5.0]]), torch.tensor([2.0, 2.0]))
        tensor([[-1.],
                [ 3.]])
    """
    shapes = [[n for axis, n in enumerate(x.shape) if axis == 0 or n != 1] for x in (y_pred, y)]
    if shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(
            f"y_pred {tuple(y_pred.shape)} and y {tuple(y.shape)} must have the same shape (N, ...); reshape them with "
            "output_transform"
        )
    wide = wide_dtype(y.device)
    predicted, target = (
        x.detach() if x.is_floating_point() and x.itemsize >= 4 else x.detach().to(wide)  # noqa: PLR2004 - bytes
        for x in (y_pred, y)
    )
    return predicted - target.reshape(predicted.shape)


class _MeanError(Metric):
    """Base class of metrics that divide the sum of all elementwise errors by the number of examples."""

    _state_dict_all_req_keys = ("_sum", "_num_examples")

    def reset(self) -> None:
        """Discard all data."""
        self._sum: torch.Tensor | float = 0.0
        self._num_examples = 0

    def update(self, output: Any) -> None:
        """Add the errors of one batch.

        Args:
            output: ``(y_pred, y)``. A third element, the ``criterion_kwargs`` for ``Loss``, is accepted and ignored.
        """
        y_pred, y, _ = split_output(output, type(self).__name__)
        if not (isinstance(y_pred, torch.Tensor) and isinstance(y, torch.Tensor)):
            raise TypeError(
                f"{type(self).__name__} needs tensors y_pred and y, got {type(y_pred).__name__} and {type(y).__name__}; "
                "convert them with output_transform"
            )
        errors = self._errors(difference(y_pred, y))
        self._sum += summand(errors.sum(dtype=wide_dtype(errors.device)))
        self._num_examples += y.shape[0]

    @sync_all_reduce("_sum", "_num_examples")
    def compute(self) -> float:
        """Return the mean over all examples of all processes.

        Raises:
            NotComputableError: If there are no examples.
        """
        if self._num_examples == 0:
            raise NotComputableError(f"{type(self).__name__} has received no examples since its last reset")
        return float(self._sum) / self._num_examples

    @staticmethod
    @abstractmethod
    def _errors(difference: torch.Tensor) -> torch.Tensor:
        """Return the error of each element."""


class MeanAbsoluteError(_MeanError):
    """Compute the mean absolute error: the sum of ``|y_pred - y|`` divided by the number of examples.

    The output is ``(y_pred, y)``, or a mapping with the keys ``y_pred`` and ``y``. The tensors ``y_pred`` and ``y`` have the
    shape (N, ...); apart from N, dimensions of size 1 are ignored, so (N, 1) matches (N,). If an example has several elements,
    their errors are summed. To get the mean over all elements, flatten ``y_pred`` and ``y`` with ``output_transform``.

    The arguments are the same as for :class:`glowplug.Metric`. The sum stays on the device of the data, so that updates never wait
    for an accelerator.

    Raises:
        TypeError: If ``y_pred`` or ``y`` is not a tensor.
        ValueError: If the shapes do not match.

    Example:
        >>> import torch
        >>> error = MeanAbsoluteError()
        >>> error.update((torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0])))
        >>> error.compute()
        2.0
    """

    @staticmethod
    def _errors(difference: torch.Tensor) -> torch.Tensor:
        return difference.abs()


class MeanSquaredError(_MeanError):
    """Compute the mean squared error: the sum of ``(y_pred - y)**2`` divided by the number of examples.

    Outputs, arguments and exceptions are the same as for :class:`MeanAbsoluteError`.

    Example:
        >>> import torch
        >>> error = MeanSquaredError()
        >>> error.update((torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0])))
        >>> error.compute()
        5.0
    """

    @staticmethod
    def _errors(difference: torch.Tensor) -> torch.Tensor:
        return difference.square()


class RootMeanSquaredError(MeanSquaredError):
    """Compute the square root of the mean squared error.

    Outputs, arguments and exceptions are the same as for :class:`MeanAbsoluteError`.

    Example:
        >>> import torch
        >>> error = RootMeanSquaredError()
        >>> error.update((torch.tensor([1.0, 5.0]), torch.tensor([1.0, 1.0])))
        >>> error.compute() == 8**0.5
        True
    """

    def compute(self) -> float:
        """Return the root mean squared error over all examples of all processes.

        Raises:
            NotComputableError: If there are no examples.
        """
        return math.sqrt(super().compute())
