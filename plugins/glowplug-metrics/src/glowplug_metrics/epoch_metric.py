"""EpochMetric: a custom function of all predictions and targets of an epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from glowplug import Metric, identity, reinit__is_reduced
from glowplug.distributed import agree_any, all_gather, broadcast, rank, world_size
from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug_metrics.batch import split_output

__all__ = ["EpochMetric", "EpochMetricWarning"]


class EpochMetricWarning(GlowplugWarning):
    """The function of an :class:`EpochMetric` failed on the first batch.

    Example:
        >>> issubclass(EpochMetricWarning, UserWarning)
        True
    """


class EpochMetric(Metric):
    """Call a custom function with all predictions and targets of an epoch.

    Use this metric for values that cannot be summed over batches. The metric stores all outputs until the next reset. With
    several processes, ``compute`` gathers the outputs of all ranks, calls ``compute_fn`` on rank 0, and returns the value on all
    ranks. Ranks may have different numbers of examples. The value is cached until the data changes.

    Args:
        compute_fn: Function that returns the value of the metric, called as ``compute_fn(y_pred, y)``. With several
            processes, the value must be picklable.
        output_transform: Turns the engine's output into ``(y_pred, y)``. Both tensors must have the shape (N,) or (N, C). A
            tensor of shape (N, 1) is converted to the shape (N,). The dtypes and C must not change between batches.
        check_compute_fn: Whether to call ``compute_fn`` on the first batch after each reset, and to warn if the call fails.
            Defaults to ``True``.
        device: Device of the stored outputs. Defaults to the CPU. If the outputs are on an accelerator, each update then waits
            for the accelerator and copies the batch. To avoid this, pass the device of the outputs, which must have room for all
            outputs of an epoch, and ``check_compute_fn=False``.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        TypeError: If ``compute_fn`` is not callable, or if ``y_pred`` or ``y`` is not a tensor.
        ValueError: If the shapes do not match, or if the dtype or C changes between updates.
        RuntimeError: If ``compute_fn`` failed on rank 0. On rank 0, ``compute`` raises the original exception; on all
            other ranks, it raises this error.

    Warns:
        EpochMetricWarning: If ``compute_fn`` fails on the first batch after a reset.

    Example:
        >>> import torch
        >>> largest_error = EpochMetric(lambda y_pred, y: (y_pred - y).abs().max().item())
        >>> largest_error.update((torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])))
        >>> largest_error.update((torch.tensor([4.0]), torch.tensor([5.0])))
        >>> largest_error.compute()
        3.0
    """

    _state_dict_all_req_keys = ("_predictions", "_targets")

    def __init__(
        self,
        compute_fn: Callable[[torch.Tensor, torch.Tensor], Any],
        output_transform: Callable[[Any], Any] = identity,
        check_compute_fn: bool = True,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        if not callable(compute_fn):
            raise TypeError(f"compute_fn must be a function compute_fn(y_pred, y), got {compute_fn!r}")
        self.compute_fn = compute_fn
        self._check_compute_fn = check_compute_fn
        super().__init__(output_transform, device, skip_unrolling)

    @reinit__is_reduced
    def reset(self) -> None:
        """Discard all data."""
        self._predictions: list[torch.Tensor] = []
        self._targets: list[torch.Tensor] = []
        self._result: Any = None

    @reinit__is_reduced
    def update(self, output: Any) -> None:
        """Store one batch; a batch without examples is ignored.

        Args:
            output: ``(y_pred, y)``. A third element, the ``criterion_kwargs`` for ``Loss``, is accepted and ignored.
        """
        y_pred, y, _ = split_output(output, type(self).__name__)
        y_pred, y = self._prepare("y_pred", y_pred), self._prepare("y", y)
        if len(y_pred) != len(y):
            raise ValueError(
                f"y_pred and y must have the same number of examples, got {len(y_pred)} and {len(y)}"
            )
        if len(y) == 0:
            return
        for name, new, kept in (("y_pred", y_pred, self._predictions), ("y", y, self._targets)):
            if kept and _kind(kept[0]) != _kind(new):
                raise ValueError(
                    f"{name} changed from {_describe(kept[0])} to {_describe(new)} since the last reset; use "
                    "output_transform to give all batches the same dtype and the same shape apart from N"
                )
        if self._check_compute_fn and not self._predictions:
            self._try(y_pred, y)
        self._predictions.append(y_pred)
        self._targets.append(y)

    def compute(self) -> Any:
        """Return the value of ``compute_fn`` for the outputs of all processes.

        Raises:
            NotComputableError: If no process has examples.
        """
        if agree_any(self._result is None):
            y_pred, y = (self._gather(kept) for kept in (self._predictions, self._targets))
            if y_pred is None or y is None:
                raise NotComputableError(
                    f"{type(self).__name__} has received no examples since its last reset"
                )
            self._result = self._on_rank_zero(y_pred, y)
        return self._result

    def _prepare(self, name: str, values: Any) -> torch.Tensor:
        """Return a checked copy of the values to store."""
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                f"{type(self).__name__} needs a tensor for {name}, got {type(values).__name__}; convert the value to a tensor "
                "with output_transform"
            )
        if values.ndim not in {1, 2}:
            raise ValueError(
                f"{name} must have the shape (N,) or (N, C) for N examples, got {tuple(values.shape)}; change the shape with "
                "output_transform"
            )
        # Copy, because the next batch may overwrite this one.
        kept: torch.Tensor = values.detach().to(self._device, copy=True)
        return kept.squeeze(1) if kept.ndim == 2 and kept.shape[1] == 1 else kept  # noqa: PLR2004 - (N, 1)

    def _try(self, y_pred: torch.Tensor, y: torch.Tensor) -> None:
        try:
            self.compute_fn(y_pred, y)
        except Exception as error:  # noqa: BLE001 - compute() raises an error that persists
            warnings.warn(
                f"compute_fn of {type(self).__name__} failed on the first batch with {type(error).__name__}: {error}; if "
                "compute_fn needs more data than one batch, set check_compute_fn=False",
                EpochMetricWarning,
                stacklevel=3,
            )

    def _gather(self, kept: list[torch.Tensor]) -> torch.Tensor | None:
        """Return the values of all ranks, or ``None`` if no rank has values."""
        if world_size() == 1:
            return torch.cat(kept) if kept else None
        kinds = [kind for of_rank in all_gather([_kind(kept[0])] if kept else []) for kind in of_rank]
        if not kinds:
            return None
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError(
                f"the examples of {type(self).__name__} must have the same dtype and shape on all ranks, got {kinds}"
            )
        dtype, shape = kinds[0]
        local: torch.Tensor = torch.cat([torch.empty((0, *shape), dtype=dtype, device=self._device), *kept])
        return all_gather(local)

    def _on_rank_zero(self, y_pred: torch.Tensor, y: torch.Tensor) -> Any:
        """Call ``compute_fn`` on rank 0 and return its value on all ranks, or raise on all ranks if the call fails."""
        if world_size() == 1:
            return self.compute_fn(y_pred, y)
        value, failure, problem = None, None, None
        if rank() == 0:
            try:
                value = self.compute_fn(y_pred, y)
            except Exception as error:  # noqa: BLE001 - raised below, after the broadcast
                problem, failure = error, f"{type(error).__name__}: {error}"
        value, failure = broadcast((value, failure))
        if problem is not None:
            raise problem
        if failure is not None:
            raise RuntimeError(f"compute_fn of {type(self).__name__} failed on rank 0: {failure}")
        return value


def _kind(values: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    return values.dtype, tuple(values.shape[1:])


def _describe(values: torch.Tensor) -> str:
    dtype, shape = _kind(values)
    return f"{dtype} of shape (N{''.join(f', {n}' for n in shape)})"
