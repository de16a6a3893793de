"""Base class of metrics for binary, multiclass and multilabel data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from glowplug import identity
from glowplug.distributed import all_gather, world_size
from glowplug_metrics.batch import Batch, split_output
from glowplug_metrics.classification import Task
from glowplug_metrics.classification_metric import ClassificationMetric

__all__ = ["TaskMetric", "fetch"]


def fetch(total: torch.Tensor, num_invalid: torch.Tensor | int) -> tuple[torch.Tensor, int]:
    """Copy a total and the number of invalid values to the CPU in one transfer.

    Example:
        >>> fetch(torch.ones(2), torch.tensor(3))
        (tensor([1., 1.]), 3)
    """
    if isinstance(num_invalid, int):
        return total.cpu(), num_invalid
    joined = torch.cat((total.flatten(), num_invalid.reshape(1))).cpu()
    return joined[:-1].view(total.shape), int(joined[-1])


class TaskMetric(ClassificationMetric):
    """Metric for binary, multiclass or multilabel data; the first batch determines the kind of data.

    Args:
        output_transform: Turns the engine's output into ``(y_pred, y)``.
        is_multilabel: Whether each example has C labels, which are 0 or 1.
        device: See :class:`glowplug.Metric`.
        skip_unrolling: See :class:`glowplug.Metric`.

    Example:
        >>> from glowplug_metrics import Accuracy, Precision
        >>> issubclass(Accuracy, TaskMetric), issubclass(Precision, TaskMetric)
        (True, True)
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = identity,
        is_multilabel: bool = False,
        device: str | torch.device = "cpu",
        skip_unrolling: bool = False,
    ) -> None:
        self._is_multilabel = is_multilabel
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Discard the counts and the kind of data."""
        self._kind: str | None = None
        self._num_classes = 0
        self._num_examples = 0
        self._num_invalid: torch.Tensor | int = 0

    @staticmethod
    def get_sequence_transform(
        ignore_index: int | Iterable[int] | None = None,
        output_transform: Callable[[Any], Any] = identity,
    ) -> Callable[[Any], tuple[torch.Tensor, torch.Tensor]]:
        """Return an ``output_transform`` that treats each element of a sequence as an example.

        Args:
            ignore_index: The label or labels of elements to omit, such as the label of padding. By default, no element is omitted.
            output_transform: Function that is called first and turns the engine's output into ``(y_pred, y)``. For N sequences
                of S elements and C classes, ``y_pred`` has the shape (N, S, C), and ``y`` has the shape (N, S).

        Returns:
            A function that returns ``y_pred`` of shape (M, C) and ``y`` of shape (M,), where M is the number of remaining elements.

        Example:
            >>> from glowplug_metrics import Accuracy
            >>> transform = Accuracy.get_sequence_transform(ignore_index=-100)
            >>> y_pred, y = transform((torch.zeros(2, 3, 5), torch.tensor([[1, 2, -100], [3, -100, -100]])))
            >>> y
            tensor([1, 2, 3])
        """
        ignored = [ignore_index] if isinstance(ignore_index, int) else sorted(ignore_index or ())
        return functools.partial(_flatten_sequences, ignored, output_transform)

    def _kind_of(self, batch: Batch) -> str:
        """Return the kind of data in a batch; the kind must not change between resets.

        Raises:
            ValueError: If the shapes do not match, or if the number of classes changes.
            RuntimeError: If the kind changes.
        """
        kind, classes = batch.multilabel_task if self._is_multilabel else batch.task
        if kind != self._kind or classes != self._num_classes:
            self._begin((kind, classes))
        return kind

    def _begin(self, task: Task) -> None:
        """Set the kind of data and the number of classes at the first batch; raise an error if they change later."""
        kind, classes = task
        if self._kind is None:
            self._kind, self._num_classes = kind, classes
            return
        name = type(self).__name__
        if kind != self._kind:
            raise RuntimeError(
                f"the data of {name} changed from {self._kind} to {kind} since its last reset; use one metric per kind of data, "
                "or call reset() before the kind changes"
            )
        raise ValueError(
            f"the number of classes of {name} changed from {self._num_classes} to {classes} since its last reset; use one metric "
            "per number of classes, or call reset() before the number changes"
        )

    def _agree_on_task(self) -> None:
        """On ranks without data, adopt the kind of data from the other ranks; all ranks must call this method."""
        if world_size() == 1:
            return
        gathered: list[tuple[Any, int]] = all_gather((self._kind, self._num_classes))
        tasks = sorted({(kind, classes) for kind, classes in gathered if kind is not None})
        if len(tasks) > 1:
            raise RuntimeError(
                f"{type(self).__name__} needs the same kind of data and number of classes on all ranks, got "
                + " and ".join(
                    kind if kind == "binary" else f"{kind} with {classes} classes" for kind, classes in tasks
                )
            )
        if tasks and self._kind is None:
            self._begin(tasks[0])

    def _check_invalid(self, count: int) -> None:
        """Raise an error if updates on an accelerator have counted invalid values."""
        if not count:
            return
        if self._kind == "multiclass":
            raise ValueError(
                f"targets must be classes from 0 to {self._num_classes - 1}, but {count} targets since the last reset are "
                "invalid; remove such targets with output_transform"
            )
        raise ValueError(
            f"binary and multilabel values must be 0 or 1, but {count} values since the last reset are invalid; convert them "
            "with output_transform, such as lambda out: ((out[0] > 0.5).int(), out[1])"
        )


def _flatten_sequences(
    ignored: list[int], output_transform: Callable[[Any], Any], output: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    output = output_transform(output)
    if isinstance(output, Mapping):
        output = output["y_pred"], output["y"]
    y_pred, y, _ = split_output(output, "get_sequence_transform")
    if y_pred.ndim != y.ndim + 1 or y.shape != y_pred.shape[:2]:
        raise ValueError(
            "y_pred and y must have the shapes (N, S, C) and (N, S) for N sequences of S elements and C classes, got "
            f"{tuple(y_pred.shape)} and {tuple(y.shape)}"
        )
    y_pred, y = y_pred.flatten(0, 1), y.flatten()
    if ignored:
        kept = ~torch.isin(y, torch.tensor(ignored, device=y.device))
        y_pred, y = y_pred[kept], y[kept]
    return y_pred, y
