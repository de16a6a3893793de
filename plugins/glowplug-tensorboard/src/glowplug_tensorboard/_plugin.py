"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import HandlerSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_handlers() -> list[HandlerSpec]:
    """Offer the handlers of this distribution."""
    return [
        HandlerSpec(
            name="TensorboardLogger",
            target="glowplug_tensorboard.logger:TensorboardLogger",
            kind="logger",
            summary="Writes scalars, histograms and images as TensorBoard event files.",
        ),
    ]
