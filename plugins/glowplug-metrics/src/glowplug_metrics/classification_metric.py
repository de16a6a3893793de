"""Classification metrics that share the statistics of a batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from glowplug import Metric, MetricUsage, Phase, RemovableEventHandle, StashKey, identity
from glowplug.typing import EngineProtocol
from glowplug_metrics.batch import Batch, split_output

__all__ = ["ClassificationMetric", "SharedUpdate", "by_input", "update_together"]


class ClassificationMetric(Metric):
    """Base class of metrics that share batch statistics and are computed from the tensors ``y_pred`` and ``y``.

    Metrics are updated together if they are attached to the same engine with the same usage and ``output_transform``. For
    metrics that are updated together, ``output_transform`` is called only once per batch, and shared statistics are computed
    only once. A subclass that overrides :meth:`update` is updated separately.

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
            output: ``(y_pred, y)``. A third element, the ``criterion_kwargs`` for ``Loss``, is accepted and ignored.
        """
        self.count(self.batch_of(output))

    def batch_of(self, output: Any) -> Batch:
        """Convert an output to a batch.

        Raises:
            TypeError: If the output is not a tuple or list, or if ``y_pred`` or ``y`` is not a tensor.
            ValueError: If the tuple or list is neither ``(y_pred, y)`` nor ``(y_pred, y, criterion_kwargs)``.
        """
        y_pred, y, _ = split_output(output, type(self).__name__)
        if not (isinstance(y_pred, torch.Tensor) and isinstance(y, torch.Tensor)):
            raise TypeError(
                f"{type(self).__name__} needs tensors y_pred and y, got {type(y_pred).__name__} and {type(y).__name__}; convert "
                "y_pred and y to tensors with output_transform, or use skip_unrolling=False for lists with one tensor per sample"
            )
        return Batch(y_pred, y)

    def transformed_without_gradients(self, output: Any) -> Any:
        """Return ``transformed(output)``, with ``output_transform`` called under ``torch.no_grad()``."""
        if self._output_transform is identity:
            return self.transformed(output)
        with torch.no_grad():
            return self.transformed(output)

    @property
    def input_key(self) -> tuple[Any, ...] | None:
        """Key shared by all metrics that are updated together.

        The key is ``None`` if the class overrides ``update`` or ``iteration_completed``. A metric without a key is updated
        separately.
        """
        kind = type(self)
        if (
            kind.update is not ClassificationMetric.update
            or kind.iteration_completed is not Metric.iteration_completed
        ):
            return None
        return (self._output_transform, self.required_output_keys)

    def add_updates(self, engine: EngineProtocol, usage: MetricUsage) -> RemovableEventHandle:
        """Update this metric together with other metrics; see :meth:`glowplug.metrics.Metric.add_updates`."""
        if self.input_key is None:
            return super().add_updates(engine, usage)
        return (
            engine.stash.setdefault(SHARED_UPDATES, {})
            .setdefault(usage, SharedUpdate())
            .add(self, engine, usage)
        )


def by_input(metrics: Iterable[Metric]) -> list[list[Any]]:
    """Group the metrics that can be updated with the same batch.

    Example:
        >>> from glowplug_metrics import Loss, Precision, Recall
        >>> groups = by_input([Precision(), Loss(torch.nn.functional.cross_entropy), Recall()])
        >>> [[type(metric).__name__ for metric in group] for group in groups]
        [['Precision', 'Recall'], ['Loss']]
    """
    groups: list[tuple[tuple[Any, ...] | None, list[Any]]] = []
    for metric in metrics:
        key = metric.input_key if isinstance(metric, ClassificationMetric) else None
        matching = [group for other, group in groups if key is not None and other == key]
        if matching:
            matching[0].append(metric)
        else:
            groups.append((key, [metric]))
    return [group for _, group in groups]


def update_together(metrics: Sequence[Any], output: Any) -> None:
    """Update several metrics with the same batch.

    Args:
        metrics: A group returned by :func:`by_input`.
        output: Output in the form that the ``update`` methods of the metrics accept.

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
    """Handler that updates all classification metrics that are attached to the same engine with the same usage.

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
        """Add a metric and return a handle that removes the metric.

        Removing the last metric detaches the shared handler.
        """
        if not self.metrics:
            self._handle = engine.add_event_handler(usage.ITERATION_COMPLETED, self)
        self._set_metrics([*self.metrics, metric])
        return RemovableEventHandle(lambda: self._remove(metric))

    def _remove(self, metric: ClassificationMetric) -> None:
        self._set_metrics([other for other in self.metrics if other is not metric])
        if not self.metrics:
            self._handle.remove()

    def _set_metrics(self, metrics: list[ClassificationMetric]) -> None:
        self.metrics = metrics
        self._groups = by_input(metrics)

    def __call__(self, engine: EngineProtocol) -> None:
        """Update all metrics with the engine's output."""
        for group in self._groups:
            metrics = [metric for metric in group if metric.takes_output(engine)]
            if metrics:
                _update_from_output(metrics, engine.state.output)

    def __getstate__(self) -> dict[str, Any]:
        # A copied engine has its own handles.
        return {name: value for name, value in vars(self).items() if name != "_handle"}

    def __repr__(self) -> str:
        return f"updates of {', '.join(type(metric).__name__ for metric in self.metrics)}"


def _update_from_output(metrics: list[ClassificationMetric], output: Any) -> None:
    first = metrics[0]
    output = first.transformed_without_gradients(output)
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], torch.Tensor):
        batch = first.batch_of(output)
        for metric in metrics:
            metric.count(batch)
        return
    # For lists of samples, each metric applies its own skip_unrolling.
    for metric in metrics:
        for part in metric.parts(output):
            metric.update(part)


SHARED_UPDATES = StashKey[dict[MetricUsage, SharedUpdate]]()
"""Shared updates of an engine, by usage."""
