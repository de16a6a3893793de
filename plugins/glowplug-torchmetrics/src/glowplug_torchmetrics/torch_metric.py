"""Adapter for metrics of torchmetrics."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
import torchmetrics

from glowplug import Metric, identity
from glowplug.distributed import all_reduce
from glowplug.exceptions import NotComputableError
from glowplug_torchmetrics.gathering import gather

__all__ = ["TorchMetric"]


class TorchMetric(Metric):
    """Adapt a ``torchmetrics.Metric`` or ``MetricCollection`` to glowplug.

    Attach, save and resume a TorchMetric like any other metric, or use it in expressions such as ``TorchMetric(a) / Average()``
    and ``TorchMetric(collection)["f1"]``. The value of a collection is a mapping; ``metrics_result_mode`` controls how the
    mapping is written to ``engine.state.metrics``.

    In distributed training, the metric's states are gathered from all ranks when the value is computed. The states are
    gathered with ``glowplug_torchmetrics.gathering.gather``, unless the metric has a ``dist_sync_fn`` or
    ``process_group``. Ranks may have different numbers of examples.

    The type of the output determines how the output is passed to ``metric.update``. The elements of a tuple or list, such as
    ``(preds, target)``, become positional arguments. The items of a mapping become keyword arguments. However, if a mapping
    has the keys ``y_pred`` and ``y``, only the values of these two keys are passed, as positional arguments. An output of any
    other type becomes a single argument. If the output has the form ``(y_pred, y, criterion_kwargs)``
    that ``Loss`` accepts, the third element is ignored.

    Args:
        metric: The metric to adapt. Do not use this metric elsewhere, because the adapter resets the metric.
        output_transform: Function that turns the engine's output into the arguments of ``metric.update``.
        device: Device of the metric's states. Defaults to the device of the data.
        skip_unrolling: See ``glowplug.Metric``.
        metrics_result_mode: See ``glowplug.Metric``.

    Raises:
        TypeError: If ``metric`` is neither a ``torchmetrics.Metric`` nor a ``torchmetrics.MetricCollection``.

    Example:
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: (torch.tensor(batch), torch.tensor([0, 1, 1])))
        >>> f1 = TorchMetric(torchmetrics.F1Score(task="binary"))
        >>> handle = f1.attach(engine, "f1")
        >>> handle = (100 * f1).attach(engine, "percent")
        >>> metrics = engine.run([[0, 1, 1], [0, 1, 0]]).metrics
        >>> round(metrics["f1"], 3), round(float(metrics["percent"]))
        (0.857, 86)
    """

    _state_dict_all_req_keys = ("states", "num_updates")

    def __init__(
        self,
        metric: torchmetrics.Metric | torchmetrics.MetricCollection,
        output_transform: Callable[[Any], Any] = identity,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        metrics_result_mode: Literal["flatten", "named", "both"] = "both",
    ) -> None:
        if not isinstance(metric, (torchmetrics.Metric, torchmetrics.MetricCollection)):
            raise TypeError(
                f"TorchMetric: metric must be a torchmetrics.Metric or torchmetrics.MetricCollection, got {metric!r}; "
                "if this is a glowplug metric, attach it directly, without TorchMetric"
            )
        self.metric = metric
        for part in self._parts().values():
            # If only some ranks had a cached value, the other ranks would wait forever.
            part.compute_with_cache = False
            if part.dist_sync_fn is None and part.process_group is None:
                part.dist_sync_fn = gather
        self._follows_data = device is None
        if device is None:
            device = next((part.device for part in self._parts().values()), torch.device("cpu"))
        super().__init__(output_transform, device, skip_unrolling, metrics_result_mode)
        metric.to(self._device)
        values = (value for part in self._parts().values() for value in part.metric_state.values())
        self._keeps_examples = any(isinstance(value, list) for value in values)

    def reset(self) -> None:
        """Discard all data."""
        self.num_updates = 0
        self.metric.reset()

    def update(self, output: Any) -> None:
        """Update the metric.

        Args:
            output: Arguments of ``metric.update``: a tuple or list of positional arguments, a mapping of keyword arguments, or
                a single argument.
        """
        output = _detach(_without_criterion_kwargs(output), copied=self._keeps_examples)
        self._follow(output)
        if isinstance(output, Mapping):
            self.metric.update(**output)
        elif isinstance(output, (tuple, list)):
            self.metric.update(*output)
        else:
            self.metric.update(output)
        self.num_updates += 1

    def compute(self) -> Any:
        """Return the value over the data of all processes; scalars in a mapping become Python numbers.

        Raises:
            NotComputableError: If no process has updated the metric since the last reset.
        """
        if all_reduce(self.num_updates) == 0:
            raise NotComputableError(
                f"TorchMetric({type(self.metric).__name__}) has received no updates since its last reset"
            )
        with warnings.catch_warnings():
            # Other ranks may have data even if this one has none.
            if self.num_updates == 0:
                warnings.filterwarnings("ignore", "The ``compute`` method of metric .* was called before")
            value = self.metric.compute()
        if isinstance(value, Mapping):
            return {name: self.publishable(item) for name, item in value.items()}
        return value

    def select(self, output: Mapping[Any, Any]) -> Any:
        """Return ``(y_pred, y)`` if the mapping has both keys; otherwise, return the mapping unchanged."""
        return super().select(output) if {"y_pred", "y"} <= output.keys() else output

    @property
    def states(self) -> dict[str, Any]:
        """States of the metric and its submetrics, keyed by submodule name; the key of the metric itself is ``""``."""
        return {
            name: {"updates": part.update_count, "values": part.metric_state}
            for name, part in self._parts().items()
        }

    @states.setter
    def states(self, states: Mapping[str, Any]) -> None:
        parts = self._parts()
        expected = {name: sorted(part.metric_state) for name, part in parts.items()}
        given = {name: sorted(of_part["values"]) for name, of_part in states.items()}
        if expected != given:
            raise ValueError(
                f"cannot load the states {given} into {type(self.metric).__name__}, which has the states {expected}; the key '' "
                "stands for the metric itself. Create the metric with the same arguments as the metric that was saved"
            )
        self.metric.reset()
        for name, part in parts.items():
            for attribute, value in states[name]["values"].items():
                setattr(part, attribute, value)
            part._update_count = states[name]["updates"]  # noqa: SLF001 - torchmetrics warns if it is missing

    def _parts(self) -> dict[str, torchmetrics.Metric]:
        modules = self.metric.named_modules()
        return {name: module for name, module in modules if isinstance(module, torchmetrics.Metric)}

    def _follow(self, output: Any) -> None:
        """Move the metric to the device of the data, unless the user has chosen a device."""
        device = next((tensor.device for tensor in _tensors(output)), self._device)
        if self._follows_data and device != self._device:
            self.metric.to(device)
            self._device = device


def _without_criterion_kwargs(output: Any) -> Any:
    if isinstance(output, (tuple, list)) and len(output) == 3 and isinstance(output[2], Mapping):  # noqa: PLR2004
        return output[:2]
    return output


def _detach(value: Any, *, copied: bool) -> Any:
    """Detach all tensors of a value, and copy them if the metric stores examples."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone() if copied else value.detach()
    if isinstance(value, Mapping):
        return {key: _detach(item, copied=copied) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_detach(item, copied=copied) for item in value]
    return value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
