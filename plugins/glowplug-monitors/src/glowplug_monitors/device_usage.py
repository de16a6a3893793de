"""Memory and utilization."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import psutil
import torch

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import AnyEvent, EngineProtocol

__all__ = ["DeviceUsage"]

_MIB = 2**20


class DeviceUsage:
    """Publish the memory of the process and of a CUDA device, and the utilization of the device, as metrics.

    =========================== =========================================================================================
    ``process_memory``          resident memory of this process in MiB
    ``device_memory``           memory of tensors on the device in MiB
    ``device_memory_peak``      the greatest value of ``device_memory`` since the run started, in MiB
    ``device_memory_reserved``  memory that torch has reserved on the device in MiB
    ``device_utilization``      share of time in which the device was busy, if the package ``nvidia-ml-py`` is installed
    =========================== =========================================================================================

    Without a CUDA device, only ``process_memory`` is published.

    Args:
        device: The CUDA device. ``None`` means the current device, if there is one.

    Raises:
        ValueError: If ``device`` is not a CUDA device.

    Example:
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> handle = DeviceUsage().attach(engine)
        >>> engine.run([1]).metrics["process_memory"] > 10
        True
    """

    phase = Phase.METRICS

    def __init__(self, device: torch.device | str | int | None = None) -> None:
        self._device = None if device is None else torch.device(device)
        if self._device is not None and self._device.type != "cuda":
            raise ValueError(f"DeviceUsage: device must be a CUDA device such as 'cuda:0', got {device!r}")
        self._has_utilization = True

    def attach(
        self, engine: EngineProtocol, prefix: str = "", event_name: AnyEvent = Events.EPOCH_COMPLETED
    ) -> RemovableEventHandle:
        """Publish the values in ``engine.state.metrics``.

        Args:
            engine: The engine.
            prefix: Text before the name of each metric.
            event_name: Event at which the values are read.
        """
        return RemovableEventHandle.join(
            engine.add_event_handler(Events.STARTED, self._start),
            engine.add_event_handler(event_name, self._publish, prefix),
        )

    def _start(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats(self._device)

    def _publish(self, engine: EngineProtocol, prefix: str) -> None:
        engine.state.metrics[f"{prefix}process_memory"] = psutil.Process().memory_info().rss / _MIB
        if torch.cuda.is_available():
            for name, value in self._of_device():
                engine.state.metrics[prefix + name] = value

    def _of_device(self) -> Iterator[tuple[str, float]]:
        device = self._device
        yield "device_memory", torch.cuda.memory_allocated(device) / _MIB
        yield "device_memory_peak", torch.cuda.max_memory_allocated(device) / _MIB
        yield "device_memory_reserved", torch.cuda.memory_reserved(device) / _MIB
        if not self._has_utilization:
            return
        try:
            yield "device_utilization", torch.cuda.utilization(device) / 100
        except (ImportError, RuntimeError) as error:
            self._has_utilization = False
            warnings.warn(
                f"DeviceUsage cannot read the utilization of the device: {error}; pip install nvidia-ml-py",
                GlowplugWarning,
                stacklevel=2,
            )
