"""RunningAverage: an exponential moving average of a metric or of the output."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

import torch

from glowplug import (
    Events,
    Metric,
    MetricUsage,
    RemovableEventHandle,
    RunningBatchWise,
    SingleEpochRunningBatchWise,
    identity,
)
from glowplug.distributed import all_reduce, world_size
from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug.typing import EngineProtocol
from glowplug_metrics.summation import wide_dtype

__all__ = ["RunningAverage", "moved_average"]

Value: TypeAlias = "float | torch.Tensor"


def moved_average(average: Value | None, value: Value, alpha: float) -> Value:
    """Return ``alpha * average + (1 - alpha) * value``, or ``value`` if there is no finite average yet.

    A value that is infinite or NaN does not change a finite average; in a tensor, this applies to each element separately.
    Tensors stay on their device. If the average is a tensor, it has 64-bit floats, or 32-bit floats on MPS.

    Example:
        >>> moved_average(1.0, 2.0, alpha=0.75)
        1.25
        >>> moved_average(1.0, float("nan"), alpha=0.75)
        1.0
    """
    if not isinstance(value, torch.Tensor):
        if average is None or not math.isfinite(average):
            return float(value)
        return alpha * average + (1 - alpha) * value if math.isfinite(value) else average
    if value.is_cpu and not value.ndim:
        number = moved_average(None if average is None else float(average), value.item(), alpha)
        return torch.tensor(number, dtype=torch.float64)
    moved = value.detach().to(wide_dtype(value.device), copy=True)
    if average is None:
        return moved
    previous = torch.as_tensor(average, dtype=moved.dtype, device=moved.device)
    change = (moved - previous).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    return torch.where(previous.isfinite(), previous + (1 - alpha) * change, moved)


class RunningAverage(Metric):
    """Compute an exponential moving average of a metric or of the output.

    The first value is the initial average. Each further value ``x`` changes the average to
    ``alpha * average + (1 - alpha) * x``. By default, the average is updated and published at each iteration, and reset at the
    start of each run; see :class:`glowplug.metrics.RunningBatchWise`.

    If the output is a number or a scalar tensor, the output itself is the value. For any other tensor, such as losses computed
    with ``reduction="none"``, the value is the mean over the first dimension, which is the batch. An empty batch is ignored. To
    average each element of a vector separately, add a batch dimension: ``output_transform=lambda vector: vector.unsqueeze(0)``.

    A value that is infinite or NaN does not change a finite average. Until the first finite value, the published average is the
    last infinite or NaN value. The first infinite or NaN value causes a warning. Values on an accelerator cause no warning, because
    reading them would wait for the accelerator.

    With several processes, the result is the mean of the averages of all processes. If ``src`` is given, the averages are not
    combined, because the values of ``src`` already include the data of all processes.

    Args:
        src: The metric to average. Do not attach this metric separately, because it is updated and reset at each iteration.
        alpha: Weight of the previous average, above 0 and at most 1. Defaults to 0.98.
        output_transform: Turns the engine's output into a number or tensor. If ``src`` is given, ``output_transform`` must be
            omitted.
        epoch_bound: Deprecated. ``True`` resets the average at each epoch if ``attach()`` is called without a usage.
        device: See :class:`glowplug.Metric`. If ``src`` is given, ``device`` must be omitted. Tensors stay on their own device.
        skip_unrolling: See :class:`glowplug.Metric`.

    Raises:
        TypeError: If ``src`` is not a metric, or an output is neither a number nor a tensor.
        ValueError: If ``alpha`` is out of range, if both or neither of ``src`` and ``output_transform`` are given, if
            ``device`` is combined with ``src``, or if the shape of the values changes.

    Warns:
        GlowplugWarning: If a value on the CPU is infinite or NaN, or ``epoch_bound`` is used.

    Example:
        >>> from glowplug import Engine
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> handle = RunningAverage(output_transform=lambda loss: loss, alpha=0.5).attach(trainer, "loss")
        >>> trainer.run([4.0, 2.0, 1.0]).metrics
        {'loss': 2.0}
    """

    required_output_keys = None
    default_usage = RunningBatchWise()
    _state_dict_all_req_keys = ("_average", "src")

    def __init__(
        self,
        src: Metric | None = None,
        alpha: float = 0.98,
        output_transform: Callable[[Any], Any] | None = None,
        epoch_bound: bool | None = None,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        _check_arguments(src, alpha, output_transform, device)
        if epoch_bound is not None:
            warnings.warn(
                "epoch_bound is deprecated. Replace epoch_bound=True with attach(..., usage=SingleEpochRunningBatchWise()); "
                "remove epoch_bound=False, which has no effect",
                GlowplugWarning,
                stacklevel=2,
            )
        self.src = src
        self.alpha = alpha
        self.epoch_bound = epoch_bound
        super().__init__(
            output_transform or identity,
            "cpu" if device is None else device,
            skip_unrolling,
        )

    def reset(self) -> None:
        """Discard the average and the data of ``src``."""
        self._average: Value | None = None
        self._has_warned = False
        if self.src is not None:
            self.src.reset()

    def update(self, output: Any) -> None:
        """Update the average.

        Args:
            output: A number or a tensor. If ``src`` is given, the output is passed to ``src.update``.
        """
        if self.src is not None:
            self.src.update(output)
            self._add_from_source()
        else:
            self._add_output(output)

    def compute(self) -> Value:
        """Return the average; see :class:`RunningAverage` for its value with several processes.

        Raises:
            NotComputableError: If the average has no value yet.
        """
        if self._average is None:
            raise NotComputableError("RunningAverage has received no values since its last reset")
        if self.src is not None or world_size() == 1:
            return self._average
        return all_reduce(self._average) / world_size()

    def usage_or_default(self, usage: str | MetricUsage | None) -> MetricUsage:
        """Return the usage for ``attach()``; ``epoch_bound`` may change the default usage."""
        if usage is None and self.epoch_bound:
            return SingleEpochRunningBatchWise()
        return super().usage_or_default(usage)

    def iteration_completed(self, engine: EngineProtocol) -> None:
        """Update the average with the engine's output or the value of ``src``."""
        if self.src is None:
            super().iteration_completed(engine)
        else:
            with torch.no_grad():
                self._add_from_source()

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Let the engine reset and update ``src`` and the average; see :meth:`glowplug.metrics.Metric.feed`."""
        usage = self.usage_or_default(usage)
        if self.src is None:
            return super().feed(engine, usage)
        with ExitStack() as fed:
            fed.enter_context(self.src.feed(engine, _SourceOfAverage(usage, self)))
            fed.enter_context(super().feed(engine, usage))
            return RemovableEventHandle(fed.pop_all().close)

    def publishable(self, value: Any) -> Any:
        """Return an accelerator tensor unchanged, so that no iteration waits for the accelerator."""
        if isinstance(value, torch.Tensor) and not value.is_cpu:
            return value
        return super().publishable(value)

    def _add_from_source(self) -> None:
        if self.src is None:
            return
        try:
            value = self.src.compute()
        except NotComputableError:
            # Without new data, src has no value to add.
            return
        self.src.reset()
        self._add(value)

    def _add_output(self, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim:
            if not len(output):
                return
            output = output.detach().to(wide_dtype(output.device)).mean(0)
        self._add(output)

    def _add(self, value: Any) -> None:
        if not isinstance(value, (int, float, torch.Tensor)):
            raise TypeError(
                f"RunningAverage accepts numbers and tensors, got {type(value).__name__}; return a number or tensor from "
                "output_transform or src"
            )
        self._check(value)
        self._average = moved_average(self._average, value, self.alpha)

    def _check(self, value: Value) -> None:
        """Refuse a value that differs in shape from the average; warn once about a CPU value that is not finite."""
        if self._average is not None and _shape(value) != _shape(self._average):
            raise ValueError(
                "all values that RunningAverage receives must have the same shape, but the shape changed from "
                f"{_shape(self._average)} to {_shape(value)} since the last reset; change output_transform or src so that all "
                "values have one shape"
            )
        if self._has_warned or not _has_invalid(value):
            return
        self._has_warned = True
        warnings.warn(
            f"RunningAverage received a value that is not finite ({value}); such values do not change a finite average",
            GlowplugWarning,
            stacklevel=3,
        )


def _shape(value: Value) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def _has_invalid(value: Value) -> bool:
    """Return whether a number or a CPU tensor has infinite or NaN values."""
    if isinstance(value, torch.Tensor):
        return value.is_cpu and not math.isfinite(value.sum().item())
    return not math.isfinite(value)


class _SourceOfAverage(MetricUsage):
    """Usage that reserves ``src`` for one running average, because a running average resets its ``src``."""

    def __init__(self, usage: MetricUsage, average: RunningAverage) -> None:
        self._average = average
        # In a MetricGroup, usage.ITERATION_COMPLETED is empty: the group updates the average directly, and the average updates
        # its source.
        updated = usage.ITERATION_COMPLETED and Events.ITERATION_COMPLETED
        super().__init__(usage.STARTED, usage.COMPLETED, updated)

    def _identity(self) -> tuple[Any, ...]:
        return (*super()._identity(), id(self._average))

    def __repr__(self) -> str:
        return "the source of a RunningAverage"


def _check_arguments(src: object, alpha: float, output_transform: object, device: object) -> None:
    if src is not None and not isinstance(src, Metric):
        raise TypeError(
            f"src must be a metric, got {src!r}; to average a function of the output, pass the function as output_transform"
        )
    if (src is None) == (output_transform is None):
        raise ValueError(
            "RunningAverage needs either src (a metric) or output_transform (a function of the output); pass exactly one of them"
        )
    if src is not None and device is not None:
        raise ValueError(f"device={device!r} cannot be combined with src; set the device of the src metric")
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be above 0 and at most 1, got {alpha!r}")
