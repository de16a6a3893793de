"""RunningAverage: an exponential moving average of a metric, or of the output."""

from __future__ import annotations

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
    """Return ``alpha * average + (1 - alpha) * value``; the value itself as the first average.

    Tensors stay on their device, and the average has 64 bits (32 on MPS).

    Example:
        >>> moved_average(1.0, 2.0, alpha=0.75)
        1.25
    """
    if not isinstance(value, torch.Tensor):
        return float(value) if average is None else alpha * average + (1 - alpha) * value
    moved = value.detach().to(wide_dtype(value.device), copy=True)
    return moved if average is None else moved.mul_(1 - alpha).add_(average, alpha=alpha)


class RunningAverage(Metric):
    """An exponential moving average of a metric's values, or of the output's.

    The average starts as the first value ``x``, and each further one makes it ``alpha * average + (1 - alpha) * x``. By
    default there is a value at each iteration, and a new run starts anew: :class:`RunningBatchWise`.

    With several processes it is the average over them.

    Args:
        src: The metric, which is updated at each iteration, averaged and reset. It belongs to this average alone.
        alpha: Above 0, and at most 1: how much of the former average stays.
        output_transform: Without ``src``: turns the engine's output into a number or tensor.
        epoch_bound: Deprecated: whether each epoch starts anew where :meth:`attach` is given no usage.
        device: Without ``src``: see ``glowplug.Metric``. Tensors stay where they are.
        skip_unrolling: See ``glowplug.Metric``.

    Raises:
        TypeError: If ``src`` is not a metric; at an update: an output that is neither a number nor a tensor.
        ValueError: If ``alpha`` is out of range; both or none of ``src`` and ``output_transform``; a device with ``src``.

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
                "epoch_bound is deprecated; use attach(..., usage=SingleEpochRunningBatchWise()) for True and RunningBatchWise(), "
                "the default, for False",
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
        """Discard the average and the data of the source."""
        self._average: Value | None = None
        if self.src is not None:
            self.src.reset()

    def update(self, output: Any) -> None:
        """Move the average.

        Args:
            output: A number or a tensor; with ``src``, what that metric takes.
        """
        if self.src is not None:
            self.src.update(output)
            self._take_from_source()
        else:
            self._take(output)

    def compute(self) -> Value:
        """Return the average; over several processes, the mean of theirs.

        Raises:
            NotComputableError: If there has been no value.
        """
        if self._average is None:
            raise NotComputableError("RunningAverage has seen no value since it was reset")
        if self.src is not None or world_size() == 1:
            return self._average
        return all_reduce(self._average) / world_size()

    def usage_or_default(self, usage: str | MetricUsage | None) -> MetricUsage:
        """Return the usage for an argument."""
        if usage is None and self.epoch_bound:
            return SingleEpochRunningBatchWise()
        return super().usage_or_default(usage)

    def iteration_completed(self, engine: EngineProtocol) -> None:
        """Move the average by the engine's output, or by the updated source."""
        if self.src is None:
            super().iteration_completed(engine)
        else:
            with torch.no_grad():
                self._take_from_source()

    def feed(self, engine: EngineProtocol, usage: str | MetricUsage | None = None) -> RemovableEventHandle:
        """Update the average, and its source before it; see ``glowplug.Metric.feed``."""
        usage = self.usage_or_default(usage)
        if self.src is None:
            return super().feed(engine, usage)
        with ExitStack() as fed:
            fed.enter_context(self.src.feed(engine, _SourceOfAverage(usage, self)))
            fed.enter_context(super().feed(engine, usage))
            return RemovableEventHandle(fed.pop_all().close)

    def publishable(self, value: Any) -> Any:
        """Return an accelerator tensor unchanged, so no iteration waits for it."""
        if isinstance(value, torch.Tensor) and not value.is_cpu:
            return value
        return super().publishable(value)

    def _take_from_source(self) -> None:
        if self.src is None:
            return
        try:
            value = self.src.compute()
        except NotComputableError:
            # An epoch without data has no value.
            return
        self.src.reset()
        self._take(value)

    def _take(self, value: Any) -> None:
        if not isinstance(value, (int, float, torch.Tensor)):
            raise TypeError(
                f"RunningAverage takes numbers and tensors, got a {type(value).__name__}; pick one with output_transform"
            )
        self._average = moved_average(self._average, value, self.alpha)


class _SourceOfAverage(MetricUsage):
    """Exclusive usage of the source of a running average, which resets it."""

    def __init__(self, usage: MetricUsage, average: RunningAverage) -> None:
        self._average = average
        # In a MetricGroup this is no event at all: the group updates the average by hand, and that its metric.
        updated = usage.ITERATION_COMPLETED and Events.ITERATION_COMPLETED
        super().__init__(usage.STARTED, usage.COMPLETED, updated)

    def _identity(self) -> tuple[Any, ...]:
        return (*super()._identity(), id(self._average))

    def __repr__(self) -> str:
        return "the source of a RunningAverage"


def _check_arguments(src: object, alpha: float, output_transform: object, device: object) -> None:
    if src is not None and not isinstance(src, Metric):
        raise TypeError(
            f"src must be a metric, got {src!r}; for a function of the output give output_transform="
        )
    if (src is None) == (output_transform is None):
        raise ValueError(
            "give RunningAverage a metric (src) or a function of the output (output_transform), and not both"
        )
    if src is not None and device is not None:
        raise ValueError(f"with src the device is that metric's own; got device={device!r}")
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be above 0 and at most 1, got {alpha!r}")
