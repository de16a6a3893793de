"""Plugin hooks of this distribution; this module imports no large libraries."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the offers of this distribution: the names that it provides as a plugin."""
    return [
        Offer(
            "TorchMetric",
            "glowplug_torchmetrics.torch_metric:TorchMetric",
            kind="metric",
            summary="Adapter for a metric or MetricCollection of torchmetrics.",
        ),
    ]
