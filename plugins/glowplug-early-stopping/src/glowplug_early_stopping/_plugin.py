"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import HandlerSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_handlers() -> list[HandlerSpec]:
    """Offer the handlers of this distribution."""
    return [
        HandlerSpec(
            name="EarlyStopping",
            target="glowplug_early_stopping.early_stopping:EarlyStopping",
            kind="handler",
            summary="Stops the engine when a score no longer improves.",
        ),
    ]
