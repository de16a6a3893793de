"""EpochMetric: any function of all predictions and targets of an epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from glowplug import Metric, identity, reinit__is_reduced
from glowplug.distributed import agree_any, all_gather, broadcast, rank, world_size
from glowplug.exceptions import GlowplugWarning, NotComputableError

__all__ = ["EpochMetric", "EpochMetricWarning"]


class EpochMetricWarning(GlowplugWarning):
    """The function of an :class:`EpochMetric` failed on the first batch.

    Example:
        >>> issubclass(EpochMetricWarning, UserWarning)
        True
    """


class EpochMetric(Metric):
    """A function of all predictions and targets, for values that are no sum over batches.

    It keeps all outputs until the next reset. Under several processes those of all are brought together, whatever number
    each has; ``compute_fn`` runs on rank 0, and all ranks get its value. It is computed once for the same data.

    Args:
        compute_fn: ``compute_fn(y_pred, y)`` returns the value: anything that can be pickled.
        output_transform: Turns the engine's output into ``(y_pred, y)``: tensors of shape (N, C) or (N,); (N, 1) counts as
            (N,). Their types, and C, stay the same.
        check_compute_fn: Try ``compute_fn`` on the first batch, and warn if it fails there.
        device: Where the outputs are kept.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: If ``compute_fn`` cannot be called; at an update: not tensors.
        ValueError: At an update: other shapes, or other types than before.
        RuntimeError: At ``compute`` on other ranks than 0: ``compute_fn`` failed there.

    Warns:
        EpochMetricWarning: ``compute_fn`` fails on the first batch.

    Example:
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
            raise TypeError(f"compute_fn must be a function of y_pred and y, got {compute_fn!r}")
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
        """Keep one batch; one without examples adds nothing.

        Args:
            output: ``(y_pred, y)``.
        """
        y_pred, y = output
        y_pred, y = self._taken("y_pred", y_pred), self._taken("y", y)
        if len(y_pred) != len(y):
            raise ValueError(
                f"y_pred has {len(y_pred)} examples and y has {len(y)}: each prediction needs its target"
            )
        if len(y) == 0:
            return
        for name, new, kept in (("y_pred", y_pred, self._predictions), ("y", y, self._targets)):
            if kept and _kind(kept[0]) != _kind(new):
                raise ValueError(
                    f"{name} was {_described(kept[0])} since the last reset, and now is {_described(new)}; make all batches "
                    "alike with output_transform, or reset()"
                )
        if self._check_compute_fn and not self._predictions:
            self._try(y_pred, y)
        self._predictions.append(y_pred)
        self._targets.append(y)

    def compute(self) -> Any:
        """Return the function's value for the outputs of all processes.

        Raises:
            NotComputableError: If there has been no example on any of them.
        """
        if agree_any(self._result is None):
            y_pred, y = (self._gathered(kept) for kept in (self._predictions, self._targets))
            if y_pred is None or y is None:
                raise NotComputableError(f"{type(self).__name__} has seen no example since it was reset")
            self._result = self._on_rank_zero(y_pred, y)
        return self._result

    def _taken(self, name: str, values: Any) -> torch.Tensor:
        """Return the values as they are kept."""
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                f"{type(self).__name__} takes tensors y_pred and y, got a {type(values).__name__} for {name}; make it so with "
                "output_transform"
            )
        if values.ndim not in {1, 2}:
            raise ValueError(
                f"{name} must have the shape (N,) or (N, C) for N examples, got {tuple(values.shape)}; make it so with "
                "output_transform"
            )
        # A copy, since the next batch may be written where this one is.
        kept: torch.Tensor = values.detach().to(self._device, copy=True)
        return kept.squeeze(1) if kept.ndim == 2 and kept.shape[1] == 1 else kept  # noqa: PLR2004 - (N, 1)

    def _try(self, y_pred: torch.Tensor, y: torch.Tensor) -> None:
        try:
            self.compute_fn(y_pred, y)
        except Exception as error:  # noqa: BLE001 - whatever it is, compute() is where it counts
            warnings.warn(
                f"compute_fn of {type(self).__name__} fails on the first batch, and may fail on all data: "
                f"{type(error).__name__}: {error}. If one batch is too few for it, give check_compute_fn=False",
                EpochMetricWarning,
                stacklevel=3,
            )

    def _gathered(self, kept: list[torch.Tensor]) -> torch.Tensor | None:
        """Return the values of all ranks, of which some may have none."""
        if world_size() == 1:
            return torch.cat(kept) if kept else None
        kinds = [kind for of_rank in all_gather([_kind(kept[0])] if kept else []) for kind in of_rank]
        if not kinds:
            return None
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError(
                f"{type(self).__name__} has values of different types or shapes on the ranks: {kinds}"
            )
        dtype, shape = kinds[0]
        own: torch.Tensor = torch.cat([torch.empty((0, *shape), dtype=dtype, device=self._device), *kept])
        return all_gather(own)

    def _on_rank_zero(self, y_pred: torch.Tensor, y: torch.Tensor) -> Any:
        """Return what the function returns on rank 0; where it fails, all ranks do, instead of waiting for it."""
        if world_size() == 1:
            return self.compute_fn(y_pred, y)
        value, failure, problem = None, None, None
        if rank() == 0:
            try:
                value = self.compute_fn(y_pred, y)
            except Exception as error:  # noqa: BLE001 - raised again, when the other ranks know of it
                problem, failure = error, f"{type(error).__name__}: {error}"
        value, failure = broadcast((value, failure))
        if problem is not None:
            raise problem
        if failure is not None:
            raise RuntimeError(f"compute_fn of {type(self).__name__} failed on rank 0: {failure}")
        return value


def _kind(values: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    return values.dtype, tuple(values.shape[1:])


def _described(values: torch.Tensor) -> str:
    dtype, shape = _kind(values)
    return f"{dtype} of shape (N{''.join(f', {n}' for n in shape)})"
