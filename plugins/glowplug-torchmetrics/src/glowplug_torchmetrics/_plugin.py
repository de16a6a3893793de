"""Plugin hooks of this distribution; imports nothing heavy."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return what this distribution offers."""
    return [
        Offer(
            "TorchMetric",
            "glowplug_torchmetrics.torch_metric:TorchMetric",
            kind="metric",
            summary="Adapter for a metric or MetricCollection of torchmetrics.",
        ),
    ]
