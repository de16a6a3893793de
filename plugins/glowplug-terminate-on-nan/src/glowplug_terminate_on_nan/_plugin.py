"""Plugin hooks of this distribution; this module imports no large libraries."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the handlers of this distribution."""
    return [
        Offer(
            "TerminateOnNan",
            "glowplug_terminate_on_nan.terminate_on_nan:TerminateOnNan",
            kind="handler",
            summary="Stops the engine when its output contains NaN or infinity.",
        ),
    ]
