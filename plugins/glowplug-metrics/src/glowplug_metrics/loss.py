"""Loss: the mean of a loss function over all examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from glowplug import Metric, identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.batch import split_output
from glowplug_metrics.batch_size import batch_size_of
from glowplug_metrics.summation import summand

__all__ = ["Loss"]


class Loss(Metric):
    """Compute the mean of a loss function over all examples, with each batch weighted by its size.

    The output is ``(y_pred, y)`` or ``(y_pred, y, criterion_kwargs)``, or a mapping with the three keys ``y_pred``, ``y``
    and ``criterion_kwargs``. Other metrics ignore ``criterion_kwargs``, so they can use the same output.

    For a model with several heads, ``y_pred`` and ``y`` can each be a mapping or a tuple. If the predictions and the targets
    are lists of tensors, the metric treats each list element as a sample, unless ``skip_unrolling`` is true.

    Args:
        loss_fn: Function that is called as ``loss_fn(y_pred, y, **criterion_kwargs)`` and returns the mean loss of the batch
            as a scalar tensor.
        output_transform: Turns the engine's output into one of the forms described above.
        batch_size: Function of ``y`` that returns the number of examples in the batch. By default, the number of examples is the
            length of the first tensor in ``y``; see ``glowplug_metrics.batch_size.batch_size_of``.
        device: See :class:`glowplug.Metric`. The sum stays on the device of the loss, so that updates never wait for an
            accelerator.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        TypeError: If ``loss_fn`` or ``batch_size`` is not callable, or if the number of examples in a target cannot be
            determined.
        ValueError: If ``loss_fn`` does not return the mean as a scalar tensor, or if the parts of a target contain different
            numbers of examples.

    Example:
        >>> import torch
        >>> loss = Loss(torch.nn.functional.mse_loss)
        >>> loss.update((torch.tensor([1.0, 1.0, 1.0]), torch.zeros(3)))
        >>> loss.update((torch.tensor([5.0]), torch.zeros(1)))
        >>> loss.compute()
        7.0
    """

    required_output_keys = ("y_pred", "y", "criterion_kwargs")
    _state_dict_all_req_keys = ("_sum", "_num_examples")

    def __init__(
        self,
        loss_fn: Callable[..., Any],
        output_transform: Callable[[Any], Any] = identity,
        batch_size: Callable[[Any], int] = batch_size_of,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        for name, function in (("loss_fn", loss_fn), ("batch_size", batch_size)):
            if not callable(function):
                raise TypeError(f"{name} must be a function, got {function!r}")
        if getattr(loss_fn, "reduction", None) == "sum" and batch_size is batch_size_of:
            raise ValueError(
                f"loss_fn must return the mean over the batch, but {type(loss_fn).__name__} has reduction='sum'; set "
                "reduction='mean'"
            )
        self._loss_fn = loss_fn
        self._batch_size = batch_size
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Discard all data."""
        self._sum: torch.Tensor | float = 0.0
        self._num_examples = 0

    def update(self, output: Any) -> None:
        """Add the loss of one batch; a batch without examples is ignored.

        Args:
            output: ``(y_pred, y)`` or ``(y_pred, y, criterion_kwargs)``.
        """
        y_pred, y, criterion_kwargs = split_output(output, type(self).__name__)
        size = self._batch_size(y)
        if size == 0:
            return
        mean = self._loss_fn(y_pred, y, **criterion_kwargs)
        if not isinstance(mean, torch.Tensor) or mean.ndim:
            shape = f" of shape {tuple(mean.shape)}" if isinstance(mean, torch.Tensor) else ""
            raise ValueError(
                "loss_fn must return the mean over the batch as a scalar tensor, got "
                f"{type(mean).__name__}{shape}; set reduction='mean' for a PyTorch loss"
            )
        self._sum += summand(mean) * size
        self._num_examples += size

    @sync_all_reduce("_sum", "_num_examples")
    def compute(self) -> float:
        """Return the mean over all examples of all processes.

        Raises:
            NotComputableError: If there are no examples.
        """
        if self._num_examples == 0:
            raise NotComputableError("Loss has received no examples since its last reset")
        return float(self._sum) / self._num_examples
