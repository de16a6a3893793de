"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import HandlerSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_handlers() -> list[HandlerSpec]:
    """Offer the handlers of this distribution."""
    return [
        HandlerSpec(
            name="TerminateOnNan",
            target="glowplug_terminate_on_nan.terminate_on_nan:TerminateOnNan",
            kind="handler",
            summary="Stops the engine when its output holds a NaN or an infinity.",
        ),
    ]
