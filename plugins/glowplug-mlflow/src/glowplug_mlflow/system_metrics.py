"""Metrics of the machine, such as the use of processors, memory, disks and GPUs."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

log = logging.getLogger("glowplug.mlflow")

VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
DEFAULT_INTERVAL = 10.0


def is_enabled(given: bool | None) -> bool:
    """Return whether a logger logs system metrics.

    Args:
        given: The argument ``log_system_metrics`` of the logger. ``None`` means the value of the environment variable
            ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING``.

    Raises:
        ImportError: If the logging of system metrics is enabled but psutil is not installed.
    """
    enabled = os.environ.get(VARIABLE, "").lower() in ("true", "1") if given is None else given
    if enabled and importlib.util.find_spec("psutil") is None:
        raise ImportError(
            "MLflowLogger: logging system metrics requires psutil; run `pip install psutil`, or pass log_system_metrics=False"
        )
    return enabled


class SystemMetrics:
    """Thread that measures system metrics and logs them through the delivery queue of a logger.

    The metrics have MLflow's names, such as ``system/cpu_utilization_percentage``. The step is the number of seconds since the
    run started, so the steps of a resumed run continue to increase. MLflow's environment variable
    ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`` sets the number of seconds between two measurements, and
    ``MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING`` sets the number of measurements after which the metrics are logged.

    Args:
        log_scalars: The method ``log_scalars`` of the logger.
        started: Unix time at which the run started.
    """

    def __init__(self, log_scalars: Callable[[Mapping[str, float], int], None], started: float) -> None:
        self._log_scalars = log_scalars
        self._started = started
        self._stopping = threading.Event()
        self._is_stopped = False
        self._error: Exception | None = None
        self._thread = threading.Thread(
            target=self._work, name="glowplug MLflowLogger system metrics", daemon=True
        )
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Log the last measurements and end the thread.

        Args:
            timeout: Maximum number of seconds to wait. A slower measurement is discarded.
        """
        self._stopping.set()
        self._thread.join(timeout)
        self._is_stopped = True

    def raise_error(self) -> None:
        """Raise the exception that ``log_scalars`` raised on the thread, which nobody would see there."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        try:
            monitors = _monitors()
            interval, samples, prefix = _settings()
            while not self._stopping.is_set():
                for _ in range(samples):
                    for monitor in monitors:
                        monitor.collect_metrics()
                    if self._stopping.wait(interval):
                        break
                self._log(monitors, prefix)
        except Exception as error:  # noqa: BLE001 - the libraries of the devices may raise anything
            log.warning(
                "MLflowLogger: system metrics are no longer logged after %s: %s", type(error).__name__, error
            )

    def _log(self, monitors: list[Any], prefix: str) -> None:
        values = {}
        for monitor in monitors:
            values.update({f"{prefix}{name}": value for name, value in monitor.aggregate_metrics().items()})
            monitor.clear_metrics()
        if values and not self._is_stopped:
            try:
                self._log_scalars(values, max(0, int(time.time() - self._started)))
            except Exception as error:  # noqa: BLE001 - the exception of an earlier write, with on_error="raise"
                self._error = error


def _settings() -> tuple[float, int, str]:
    from mlflow import environment_variables

    variables: Any = environment_variables
    interval = variables.MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or DEFAULT_INTERVAL
    samples = variables.MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING.get() or 1
    node = variables.MLFLOW_SYSTEM_METRICS_NODE_ID.get()
    return float(interval), int(samples), f"system/{node}/" if node else "system/"


def _monitors() -> list[Any]:
    monitors = [_monitor("cpu_monitor.CPUMonitor"), _monitor("disk_monitor.DiskMonitor")]
    monitors.append(_monitor("network_monitor.NetworkMonitor"))
    for name in ("gpu_monitor.GPUMonitor", "rocm_monitor.ROCMMonitor"):
        try:
            monitors.append(_monitor(name))
        except Exception:  # noqa: BLE001, S112 - no such device, or no library for it
            continue
        break
    return monitors


def _monitor(name: str) -> Any:
    module, _, kind = name.partition(".")
    return getattr(import_module(f"mlflow.system_metrics.metrics.{module}"), kind)()
