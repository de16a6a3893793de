"""Accuracy: the share of right predictions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from glowplug import Metric, identity, sync_all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_metrics.accumulator import summand
from glowplug_metrics.classification import Task, count_not_binary, not_binary_error, task_of

__all__ = ["Accuracy", "matches"]


def matches(y_pred: torch.Tensor, y: torch.Tensor, is_multilabel: bool = False) -> torch.Tensor:
    """Return for each example whether its prediction is right.

    Args:
        y_pred: scores of shape (N, C, ...) for multiclass, else values 0 and 1; see :func:`task_of`.
        y: targets.
        is_multilabel: whether an example is a row of C labels, which all have to be right.

    Returns:
        A bool tensor of shape (N, ...).

    Raises:
        ValueError: shapes that do not go together.

    Example:
        >>> matches(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor([ True, False])
    """
    kind, _ = task_of(y_pred, y, is_multilabel)
    return _matches(kind, y_pred, y)


class Accuracy(Metric):
    """The share of right predictions: binary, multiclass or multilabel (M-084).

    The output is ``(y_pred, y)``, or a mapping with these keys. Their shapes decide: y_pred (N, C, ...) and y (N, ...) is
    multiclass, with scores; the same shape, or (N, 1, ...) for y_pred, is binary, with values 0 and 1;
    ``is_multilabel=True`` takes (N, C, ...) for both, with values 0 and 1, and counts examples whose labels are all right.

    Args:
        output_transform: makes ``(y_pred, y)`` of the engine's output. Probabilities are made binary here.
        is_multilabel: whether each example has C labels.
        device: see ``glowplug.Metric``. The counts stay on the device of the data, and no update waits for it.
        skip_unrolling: see ``glowplug.Metric``.

    Raises:
        TypeError: at an update: not tensors.
        ValueError: at an update: shapes that do not go together, another number of classes than before, or binary values
            other than 0 and 1 (of data on an accelerator at ``compute``, since looking at each batch would wait for it).
        RuntimeError: at an update: another kind of data than before.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update((torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])))
        >>> accuracy.compute()
        0.5
    """

    _state_dict_all_req_keys = ("_num_correct", "_num_examples", "_num_invalid")

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
        """Forget all data, and its kind."""
        self._task: Task | None = None
        self._num_examples = 0
        self._num_correct: torch.Tensor | int = 0
        self._num_invalid: torch.Tensor | int = 0

    def update(self, output: Any) -> None:
        """Count one batch.

        Args:
            output: ``(y_pred, y)``.
        """
        y_pred, y = output
        if not (isinstance(y_pred, torch.Tensor) and isinstance(y, torch.Tensor)):
            raise TypeError(
                f"Accuracy takes tensors y_pred and y, got {type(y_pred).__name__} and {type(y).__name__}; make them so "
                "with output_transform"
            )
        task = task_of(y_pred, y, self._is_multilabel)
        if task != self._task:
            self._begin(task)
        if task[0] != "multiclass":
            self._look_at_values(y_pred, y)
        right = _matches(task[0], y_pred, y)
        self._num_correct += summand(right.count_nonzero())
        self._num_examples += right.numel()

    @sync_all_reduce("_num_correct", "_num_examples", "_num_invalid")
    def compute(self) -> float:
        """Return the share of right predictions, from 0 to 1, over all processes.

        Raises:
            NotComputableError: there has been no example.
            ValueError: binary values other than 0 and 1 among data on an accelerator.
        """
        if self._num_examples == 0:
            raise NotComputableError("Accuracy has seen no example since it was reset")
        if isinstance(self._num_invalid, int):
            return int(self._num_correct) / self._num_examples
        correct, invalid = map(
            int, torch.stack((torch.as_tensor(self._num_correct), self._num_invalid)).tolist()
        )
        if invalid:
            raise ValueError(
                f"binary and multilabel values must be 0 or 1, but {invalid} values since the last reset are not; make "
                "them so with output_transform, for example lambda out: ((out[0] > 0.5).int(), out[1])"
            )
        return correct / self._num_examples

    @staticmethod
    def get_sequence_transform(
        ignore_index: int | Iterable[int] | None = None,
        output_transform: Callable[[Any], Any] = identity,
    ) -> Callable[[Any], tuple[torch.Tensor, torch.Tensor]]:
        """Return an ``output_transform`` that makes one example of each element of sequences.

        Args:
            ignore_index: the label, or labels, whose elements are left out, such as padding.
            output_transform: what comes before: makes (y_pred, y) of shapes (N, S, C) and (N, S) of the engine's output.

        Returns:
            A function that returns y_pred of shape (M, C) and y of shape (M,), M elements being left.

        Example:
            >>> transform = Accuracy.get_sequence_transform(ignore_index=-100)
            >>> y_pred, y = transform((torch.zeros(2, 3, 5), torch.tensor([[1, 2, -100], [3, -100, -100]])))
            >>> y
            tensor([1, 2, 3])
        """
        ignored = [ignore_index] if isinstance(ignore_index, int) else sorted(ignore_index or ())
        return functools.partial(_flatten_sequences, ignored, output_transform)

    def _begin(self, task: Task) -> None:
        """Take the kind of the first batch, which all others must have."""
        if self._task is None:
            self._task = task
            return
        kind, classes = self._task
        if task[0] != kind:
            raise RuntimeError(
                f"Accuracy had {kind} data since it was reset, and now gets {task[0]} data; use two metrics, or reset()"
            )
        raise ValueError(f"Accuracy had {classes} classes since it was reset, and now gets {task[1]}")

    def _look_at_values(self, y_pred: torch.Tensor, y: torch.Tensor) -> None:
        """Find values other than 0 and 1: at once on the CPU, at compute() elsewhere, where looking would wait."""
        for name, values in (("y_pred", y_pred), ("y", y)):
            invalid = summand(count_not_binary(values))
            if not isinstance(invalid, int):
                self._num_invalid += invalid
            elif invalid:
                raise not_binary_error(name, values)


def _matches(kind: str, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if kind == "multiclass":
        return y_pred.argmax(1) == y
    if kind == "multilabel":
        return (y_pred == y).all(1)
    return (y_pred if y_pred.ndim == y.ndim else y_pred.squeeze(1)) == y


def _flatten_sequences(
    ignored: list[int], output_transform: Callable[[Any], Any], output: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    output = output_transform(output)
    y_pred, y = (output["y_pred"], output["y"]) if isinstance(output, Mapping) else output
    if y_pred.ndim != y.ndim + 1 or y.shape != y_pred.shape[:2]:
        raise ValueError(
            f"sequences have the shapes (N, S, C) for y_pred and (N, S) for y, got {tuple(y_pred.shape)} and "
            f"{tuple(y.shape)}"
        )
    y_pred, y = y_pred.flatten(0, 1), y.flatten()
    if ignored:
        kept = ~torch.isin(y, torch.tensor(ignored, device=y.device))
        y_pred, y = y_pred[kept], y[kept]
    return y_pred, y
