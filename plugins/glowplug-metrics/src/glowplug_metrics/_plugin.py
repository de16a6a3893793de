"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import MetricSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_metrics() -> list[MetricSpec]:
    """Offer the metrics of this distribution."""
    return [
        MetricSpec(
            name="Accuracy",
            target="glowplug_metrics.accuracy:Accuracy",
            summary="Share of right predictions: binary, multiclass or multilabel.",
        ),
        MetricSpec(
            name="Average",
            target="glowplug_metrics.accumulation:Average",
            summary="Mean of a number or tensor over the samples.",
        ),
        MetricSpec(
            name="Loss",
            target="glowplug_metrics.loss:Loss",
            summary="Mean of a loss function over the samples.",
        ),
        MetricSpec(
            name="RunningAverage",
            target="glowplug_metrics.running_average:RunningAverage",
            summary="Exponential moving average of a metric or of the output.",
        ),
        MetricSpec(
            name="VariableAccumulation",
            target="glowplug_metrics.accumulation:VariableAccumulation",
            summary="Accumulates a number or tensor with any operation.",
        ),
    ]
