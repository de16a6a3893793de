"""Plugin hooks of this distribution.

This module imports only the hook specifications, so that plugins load fast.
"""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1

_MONITORS = (
    ("DataWait", "data_wait", "Share of the time for which the run waits for data."),
    ("DeviceUsage", "device_usage", "Memory of the device and of the process, and utilization of a GPU."),
    ("GradientNorm", "gradient_norm", "Norm of all gradients together."),
    ("LearningRate", "learning_rate", "Learning rate of each parameter group."),
    ("ModelSummary", "model_summary", "Prints the layers of a model and their sizes at the start."),
    ("Throughput", "throughput", "Samples or tokens per second over a sliding window."),
)
"""Name, module and summary of each monitor."""


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(name, f"glowplug_monitors.{module}:{name}", kind="handler", summary=summary)
        for name, module, summary in _MONITORS
    ]
