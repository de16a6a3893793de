"""Average and other accumulations of numbers and tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from glowplug import Metric, identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.summation import follow

__all__ = ["Average", "GeometricAverage", "VariableAccumulation", "add_examples", "add_logarithms"]


def add_examples(total: torch.Tensor, output: torch.Tensor | float) -> torch.Tensor:
    """Add an output to a total, summing a tensor with two or more dimensions over its first dimension.

    Example:
        >>> add_examples(torch.tensor([1.0, 1.0]), torch.ones(3, 2))
        tensor([4., 4.])
    """
    if isinstance(output, torch.Tensor) and output.ndim > 1:
        output = output.sum(dim=0)
    return total + output


def add_logarithms(total: torch.Tensor, output: torch.Tensor | float) -> torch.Tensor:
    """Add the logarithm of an output to a total; see :func:`add_examples`.

    Example:
        >>> add_logarithms(torch.tensor(1.0), 1)
        tensor(1.)
    """
    return add_examples(total, torch.as_tensor(output, dtype=total.dtype, device=total.device).log())


class VariableAccumulation(Metric):
    """Accumulate outputs with any operation and count the examples.

    A number or a tensor with fewer than two dimensions is one example. For any other tensor, the size of the first dimension is
    the number of examples.

    Args:
        op: ``op(accumulator, output)`` returns the new accumulator. The accumulator starts as ``tensor(0.0)``. Tensor
            outputs are converted to 64 bits (32 on MPS).
        output_transform: Turns the engine's output into a number or tensor.
        device: Initial device of the accumulator, which moves to the device of the outputs.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: If ``op`` is not callable, or an output is neither a number nor a tensor.

    Example:
        >>> largest = VariableAccumulation(torch.maximum)
        >>> largest.update(torch.tensor(3.0))
        >>> largest.update(torch.tensor(2.0))
        >>> largest.compute()
        (tensor(3., dtype=torch.float64), 2)
    """

    required_output_keys = None
    _state_dict_all_req_keys = ("accumulator", "num_examples")

    def __init__(
        self,
        op: Callable[[Any, Any], Any],
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        if not callable(op):
            raise TypeError(f"op must be a function op(accumulator, output), got {op!r}")
        self._op = op
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Set the accumulator and the count to 0."""
        self.accumulator = torch.zeros((), dtype=self._double_dtype, device=self._device)
        self.num_examples = 0

    def update(self, output: Any) -> None:
        """Accumulate one output.

        Args:
            output: A number or a tensor.
        """
        if isinstance(output, torch.Tensor):
            self.accumulator = follow(self.accumulator, output)
            output = output.detach().to(self.accumulator.dtype)
        elif not isinstance(output, (int, float)):
            raise TypeError(
                f"{type(self).__name__} accepts numbers and tensors, got a {type(output).__name__}; select one with "
                "output_transform"
            )
        self.accumulator = self._op(self.accumulator, output)
        self.num_examples += output.shape[0] if isinstance(output, torch.Tensor) and output.ndim > 1 else 1

    @sync_all_reduce("accumulator", "num_examples")
    def compute(self) -> Any:
        """Return the accumulator and the number of examples, each summed over all processes."""
        return self.accumulator, self.num_examples

    def _mean(self) -> torch.Tensor:
        """Return the accumulator divided by the number of examples."""
        if self.num_examples == 0:
            raise NotComputableError(f"{type(self).__name__} has received no examples since its last reset")
        return self.accumulator / self.num_examples


class Average(VariableAccumulation):
    """Mean of a number or tensor over the examples.

    Args:
        output_transform: Turns the engine's output into a number or tensor. The first dimension of a tensor with two or
            more dimensions is the batch.
        device: Initial device of the sum, which moves to the device of the outputs.
        skip_unrolling: See ``glowplug.Metric``.

    Example:
        >>> average = Average()
        >>> average.update(2.0)
        >>> average.update(4.0)
        >>> average.compute()
        tensor(3., dtype=torch.float64)
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        super().__init__(add_examples, output_transform, device, skip_unrolling)

    @sync_all_reduce("accumulator", "num_examples")
    def compute(self) -> Any:
        """Return the mean, a float64 tensor.

        Raises:
            NotComputableError: If there are no examples.
        """
        return self._mean()


class GeometricAverage(VariableAccumulation):
    """Geometric mean of a positive number or tensor over the examples.

    Args:
        output_transform: Turns the engine's output into a number or tensor. The first dimension of a tensor with two or
            more dimensions is the batch. A value of 0 makes the mean 0; a negative value makes it NaN.
        device: Initial device of the sum of logarithms, which moves to the device of the outputs.
        skip_unrolling: See ``glowplug.Metric``.

    Example:
        >>> average = GeometricAverage()
        >>> average.update(2.0)
        >>> average.update(8.0)
        >>> round(average.compute().item(), 12)
        4.0
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        super().__init__(add_logarithms, output_transform, device, skip_unrolling)

    @sync_all_reduce("accumulator", "num_examples")
    def compute(self) -> Any:
        """Return the mean, a float64 tensor.

        Raises:
            NotComputableError: If there are no examples.
        """
        return self._mean().exp()
