"""Plugin hooks of this distribution.

This module imports only the hook specifications, so that plugins load fast.
"""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "EarlyStopping",
            "glowplug_early_stopping.early_stopping:EarlyStopping",
            kind="handler",
            summary="Stops the engine when a score no longer improves.",
        ),
    ]
