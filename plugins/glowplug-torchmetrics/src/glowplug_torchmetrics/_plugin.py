"""Offers of this distribution; imports only the hooks."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Offer the names of this distribution."""
    return [
        Offer(
            "TorchMetric",
            "glowplug_torchmetrics.torch_metric:TorchMetric",
            kind="metric",
            summary="Adapter for a torchmetrics metric or MetricCollection.",
        ),
    ]
