"""Metrics of predictions and targets, which share the work on a batch that several of them take."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from glowplug import Metric, MetricUsage, Phase, RemovableEventHandle, identity
from glowplug.typing import EngineProtocol
from glowplug_metrics.batch import Batch

__all__ = ["ClassificationMetric", "SharedUpdate", "by_input", "update_together"]


class ClassificationMetric(Metric):
    """A metric that counts batches of tensors ``(y_pred, y)``.

    Those at one engine with the same usage and the same ``output_transform`` are updated together: the function is called
    once, and the batch remembers what each of them has worked out of it. A subclass that writes its own :meth:`update` is
    updated by itself.

    Example:
        >>> class Sizes(ClassificationMetric):
        ...     def reset(self):
        ...         self.sizes = []
        ...
        ...     def count(self, batch):
        ...         self.sizes.append(len(batch.y))
        ...
        ...     def compute(self):
        ...         return self.sizes
        >>> sizes = Sizes()
        >>> sizes.update((torch.zeros(4, 3), torch.zeros(4)))
        >>> sizes.compute()
        [4]
    """

    @abstractmethod
    def count(self, batch: Batch) -> None:
        """Count one batch, which other metrics may take too."""

    def update(self, output: Any) -> None:
        """Count one batch.

        Args:
            output: ``(y_pred, y)``.
        """
        self.count(self.batch_of(output))

    def batch_of(self, output: Any) -> Batch:
        """Return the batch that an output is.

        Raises:
            TypeError: it is no pair of tensors.
        """
        y_pred, y = output
        if not (isinstance(y_pred, torch.Tensor) and isinstance(y, torch.Tensor)):
            raise TypeError(
                f"{type(self).__name__} takes tensors y_pred and y, got {type(y_pred).__name__} and {type(y).__name__}; make "
                "them so with output_transform; lists with one tensor for each sample are taken apart with skip_unrolling=False"
            )
        return Batch(y_pred, y)

    def transformed_without_gradients(self, output: Any) -> Any:
        """Return what ``transformed`` does; there can be gradients in ``output_transform`` only, and none in a batch."""
        if self._output_transform is identity:
            return self.transformed(output)
        with torch.no_grad():
            return self.transformed(output)

    @property
    def input_key(self) -> tuple[Any, ...] | None:
        """What makes this metric's batches of an engine's output; ``None``: it has an update of its own."""
        kind = type(self)
        if (
            kind.update is not ClassificationMetric.update
            or kind.iteration_completed is not Metric.iteration_completed
        ):
            return None
        return (self._output_transform, self.required_output_keys)

    def add_updates(self, engine: EngineProtocol, usage: MetricUsage) -> RemovableEventHandle:
        """Let an engine update this metric together with others; see ``glowplug.Metric.add_updates``."""
        if self.input_key is None:
            return super().add_updates(engine, usage)
        return _shared.setdefault(engine, {}).setdefault(usage, SharedUpdate()).add(self, engine, usage)


def by_input(metrics: Iterable[Metric]) -> list[list[Any]]:
    """Return the metrics in lists of those that take the same batches of an output.

    Example:
        >>> from glowplug_metrics import Loss, Precision, Recall
        >>> lists = by_input([Precision(), Loss(torch.nn.functional.cross_entropy), Recall()])
        >>> [[type(metric).__name__ for metric in metrics] for metrics in lists]
        [['Precision', 'Recall'], ['Loss']]
    """
    lists: list[tuple[tuple[Any, ...] | None, list[Any]]] = []
    for metric in metrics:
        key = metric.input_key if isinstance(metric, ClassificationMetric) else None
        alike = [those for other, those in lists if key is not None and other == key]
        if alike:
            alike[0].append(metric)
        else:
            lists.append((key, [metric]))
    return [those for _, those in lists]


def update_together(metrics: Sequence[Any], output: Any) -> None:
    """Update metrics that take the same.

    Args:
        metrics: one of the lists of :func:`by_input`.
        output: what their ``update`` takes.

    Example:
        >>> from glowplug_metrics import Precision, Recall
        >>> precision, recall = Precision(), Recall()
        >>> update_together([precision, recall], (torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0])))
        >>> precision.compute(), recall.compute()
        (tensor(0.5000, dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    first = metrics[0]
    if len(metrics) == 1 or not isinstance(first, ClassificationMetric):
        first.update(output)
        return
    batch = first.batch_of(output)
    for metric in metrics:
        metric.count(batch)


class SharedUpdate:
    """The handler that updates the metrics of classification of one engine and usage.

    Example:
        >>> from glowplug import Engine
        >>> from glowplug_metrics import Precision, Recall
        >>> engine = Engine(lambda engine, batch: batch)
        >>> handles = [metric.attach(engine, type(metric).__name__) for metric in (Precision(), Recall())]
        >>> print(engine.describe())  # doctest: +ELLIPSIS
        event ...
        Events.ITERATION_COMPLETED  metrics          SharedUpdate         metrics (glowplug-metrics ...)
        ...
    """

    phase = Phase.METRICS

    def __init__(self) -> None:
        self.metrics: list[ClassificationMetric] = []

    def add(
        self, metric: ClassificationMetric, engine: EngineProtocol, usage: MetricUsage
    ) -> RemovableEventHandle:
        """Update one more metric; the handle takes it back, and with the last one this handler."""
        if not self.metrics:
            self._handle = engine.add_event_handler(usage.ITERATION_COMPLETED, self)
        self._take([*self.metrics, metric])
        return RemovableEventHandle(lambda: self._remove(metric))

    def _remove(self, metric: ClassificationMetric) -> None:
        self._take([other for other in self.metrics if other is not metric])
        if not self.metrics:
            self._handle.remove()

    def _take(self, metrics: list[ClassificationMetric]) -> None:
        self.metrics = metrics
        self._lists = by_input(metrics)

    def __call__(self, engine: EngineProtocol) -> None:
        """Update all of them with the engine's output."""
        for those in self._lists:
            metrics = [metric for metric in those if metric.takes_output(engine)]
            if metrics:
                _take_output(metrics, engine.state.output)

    def __getstate__(self) -> dict[str, Any]:
        # The handles of a copy's engine are its own.
        return {name: value for name, value in vars(self).items() if name != "_handle"}

    def __repr__(self) -> str:
        return f"updates of {', '.join(type(metric).__name__ for metric in self.metrics)}"


def _take_output(metrics: list[ClassificationMetric], output: Any) -> None:
    first = metrics[0]
    output = first.transformed_without_gradients(output)
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], torch.Tensor):
        batch = first.batch_of(output)
        for metric in metrics:
            metric.count(batch)
        return
    for metric in metrics:  # lists of samples, which each takes apart, or not
        for part in metric.parts(output):
            metric.update(part)


_shared: WeakKeyDictionary[EngineProtocol, dict[MetricUsage, SharedUpdate]] = WeakKeyDictionary()
