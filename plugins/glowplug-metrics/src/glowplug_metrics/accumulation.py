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
    """Add a number, or a tensor summed over its first dimension, to a total.

    Example:
        >>> add_examples(torch.tensor([1.0, 1.0]), torch.ones(3, 2))
        tensor([4., 4.])
    """
    if isinstance(output, torch.Tensor) and output.ndim:
        output = output.sum(dim=0)
    return total + output


def add_logarithms(total: torch.Tensor, output: torch.Tensor | float) -> torch.Tensor:
    """Add the logarithm of a number to a total; the logarithms of a tensor are first summed over its first dimension.

    Example:
        >>> add_logarithms(torch.tensor(1.0), 1)
        tensor(1.)
    """
    return add_examples(total, torch.as_tensor(output, dtype=total.dtype, device=total.device).log())


class VariableAccumulation(Metric):
    """Accumulate outputs with a custom operation and count the examples.

    A number or a scalar tensor counts as one example. For a tensor with dimensions, the size of the first one is the number of
    examples. An empty batch is ignored. With several processes, the accumulators of all processes are added up, so the result is
    correct only if ``op`` computes a sum.

    Args:
        op: Function that returns the new accumulator, called as ``op(accumulator, output)``. The accumulator starts as
            ``tensor(0.0)``. Tensor outputs are converted to float64, or to float32 on MPS.
        output_transform: Turns the engine's output into a number or tensor.
        device: Initial device of the accumulator. The accumulator moves to the device of the outputs.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        TypeError: If ``op`` is not callable, or if an output is neither a number nor a tensor.

    Example:
        >>> squares = VariableAccumulation(lambda accumulator, output: accumulator + output**2)
        >>> squares.update(3.0)
        >>> squares.update(2.0)
        >>> squares.compute()
        (tensor(13., dtype=torch.float64), 2)
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
        examples = 1
        if isinstance(output, torch.Tensor):
            examples = output.shape[0] if output.ndim else 1
            if not examples:
                return
            self.accumulator = follow(self.accumulator, output)
            output = output.detach().to(self.accumulator.dtype)
        elif not isinstance(output, (int, float)):
            raise TypeError(
                f"{type(self).__name__} accepts numbers and tensors, got {type(output).__name__}; select a number or a tensor "
                "with output_transform"
            )
        self.accumulator = self._op(self.accumulator, output)
        self.num_examples += examples

    @sync_all_reduce("accumulator", "num_examples")
    def compute(self) -> Any:
        """Return the accumulator and the number of examples, each summed over all processes."""
        return self.accumulator, self.num_examples


class _Mean(VariableAccumulation):
    """Base class of metrics that compute a mean over examples of the same shape."""

    def update(self, output: Any) -> None:
        """Add one output.

        Args:
            output: A number, or a tensor whose first dimension is the batch dimension.
        """
        shape = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
        if self.num_examples and shape != tuple(self.accumulator.shape):
            raise ValueError(
                f"{type(self).__name__} needs examples of one shape, got shape {shape} after shape "
                f"{tuple(self.accumulator.shape)}. The first dimension of a tensor must be the batch dimension; if the batch "
                "dimension is missing, add it with output_transform"
            )
        super().update(output)

    def _mean(self) -> torch.Tensor:
        """Return the accumulator divided by the number of examples."""
        if self.num_examples == 0:
            raise NotComputableError(f"{type(self).__name__} has received no examples since its last reset")
        return self.accumulator / self.num_examples


class Average(_Mean):
    """Compute the mean of numbers or tensors over the examples.

    A number or a scalar tensor counts as one example. If a tensor has dimensions, the first one is the batch dimension. For
    example, the average of losses computed with ``reduction="none"`` is the mean over all examples, even if batches have
    different sizes. To average each element of a vector separately, add a batch dimension with
    ``output_transform=lambda vector: vector.unsqueeze(0)``.

    Args:
        output_transform: Turns the engine's output into a number or tensor.
        device: Initial device of the sum. The sum moves to the device of the outputs.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        TypeError: If an output is neither a number nor a tensor.
        ValueError: If examples have different shapes.

    Example:
        >>> import torch
        >>> average = Average()
        >>> average.update(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        >>> average.update(torch.tensor([1.0]))
        >>> average.compute()
        tensor(2.2000, dtype=torch.float64)
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
        """Return the mean as a float64 tensor with the shape of one example.

        Raises:
            NotComputableError: If there are no examples.
        """
        return self._mean()


class GeometricAverage(_Mean):
    """Compute the geometric mean of positive numbers or tensors over the examples.

    This metric accepts the same outputs and raises the same exceptions as :class:`Average`. If a value is 0, the mean is 0. If a
    value is negative, the mean is NaN.

    Args:
        output_transform: Turns the engine's output into a number or tensor.
        device: Initial device of the sum of logarithms. The sum moves to the device of the outputs.
        skip_unrolling: See :class:`glowplug.Metric`.

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
        """Return the mean as a float64 tensor with the shape of one example.

        Raises:
            NotComputableError: If there are no examples.
        """
        return self._mean().exp()
