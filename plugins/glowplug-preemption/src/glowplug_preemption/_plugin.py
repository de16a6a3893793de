"""Plugin hooks of this distribution; this module imports only the hook specifications."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the handlers of this distribution."""
    return [
        Offer(
            "Preemption",
            "glowplug_preemption.preemption:Preemption",
            kind="handler",
            summary="Saves a checkpoint and ends the process after a signal or a time limit.",
        ),
    ]
