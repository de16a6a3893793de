"""Metrics of predictions and targets that share the work on a batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from glowplug import Metric, MetricUsage, Phase, RemovableEventHandle, StashKey, identity
from glowplug.typing import EngineProtocol
from glowplug_metrics.batch import Batch

__all__ = ["ClassificationMetric", "SharedUpdate", "by_input", "update_together"]


class ClassificationMetric(Metric):
    """A metric that counts batches of tensors ``(y_pred, y)``.

    Metrics at one engine with the same usage and ``output_transform`` are updated together: the function is called once,
    and the batch caches what they compute. A subclass that overrides :meth:`update` is updated separately.

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
        """Count one batch, which other metrics may share."""

    def update(self, output: Any) -> None:
        """Count one batch.

        Args:
            output: The pair ``(y_pred, y)``.
        """
        self.count(self.batch_of(output))

    def batch_of(self, output: Any) -> Batch:
        """Return an output as a batch.

        Raises:
            TypeError: If it is not a pair of tensors.
        """
        y_pred, y = output
        if not (isinstance(y_pred, torch.Tensor) and isinstance(y, torch.Tensor)):
            raise TypeError(
                f"{type(self).__name__} takes tensors y_pred and y, got {type(y_pred).__name__} and {type(y).__name__}; convert "
                "them with output_transform, or use skip_unrolling=False for lists with one tensor per sample"
            )
        return Batch(y_pred, y)

    def transformed_without_gradients(self, output: Any) -> Any:
        """Return ``transformed(output)``, without gradients in ``output_transform``."""
        if self._output_transform is identity:
            return self.transformed(output)
        with torch.no_grad():
            return self.transformed(output)

    @property
    def input_key(self) -> tuple[Any, ...] | None:
        """What turns an engine's output into batches; ``None`` if the class overrides its update."""
        kind = type(self)
        if (
            kind.update is not ClassificationMetric.update
            or kind.iteration_completed is not Metric.iteration_completed
        ):
            return None
        return (self._output_transform, self.required_output_keys)

    def add_updates(self, engine: EngineProtocol, usage: MetricUsage) -> RemovableEventHandle:
        """Update this metric together with others; see ``glowplug.Metric.add_updates``."""
        if self.input_key is None:
            return super().add_updates(engine, usage)
        return (
            engine.stash.setdefault(SHARED_UPDATES, {})
            .setdefault(usage, SharedUpdate())
            .add(self, engine, usage)
        )


def by_input(metrics: Iterable[Metric]) -> list[list[Any]]:
    """Group metrics by the batches that they take.

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
    """Update metrics that take the same batches.

    Args:
        metrics: One of the lists of :func:`by_input`.
        output: The argument of their ``update``.

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
    """Handler that updates the classification metrics of one engine and usage.

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
        """Update one more metric; the handle removes it, and with the last metric this handler."""
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
        """Update all metrics with the engine's output."""
        for those in self._lists:
            metrics = [metric for metric in those if metric.takes_output(engine)]
            if metrics:
                _take_output(metrics, engine.state.output)

    def __getstate__(self) -> dict[str, Any]:
        # A copied engine has its own handles.
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
    # Lists of samples: each metric unrolls them, or not.
    for metric in metrics:
        for part in metric.parts(output):
            metric.update(part)


SHARED_UPDATES = StashKey[dict[MetricUsage, SharedUpdate]]()
"""The shared update of each usage at one engine."""
