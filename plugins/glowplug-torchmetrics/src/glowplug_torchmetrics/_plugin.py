"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import MetricSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_metrics() -> list[MetricSpec]:
    """Offer the metrics of torchmetrics."""
    return [
        MetricSpec(
            name="TorchMetric",
            target="glowplug_torchmetrics.torch_metric:TorchMetric",
            summary="Any metric or collection of torchmetrics, as it is.",
        ),
    ]
