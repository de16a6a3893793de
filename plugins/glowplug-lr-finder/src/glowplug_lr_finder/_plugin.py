"""Plugin hooks of this distribution; this module imports no large libraries."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the handlers of this distribution."""
    return [
        Offer(
            "FastaiLRFinder",
            "glowplug_lr_finder.lr_finder:FastaiLRFinder",
            kind="handler",
            summary="Finds a learning rate with a learning rate range test.",
        ),
        Offer(
            "LRFinder",
            "glowplug_lr_finder.lr_finder:LRFinder",
            kind="handler",
            summary="Finds a learning rate; a shorter name of FastaiLRFinder.",
        ),
    ]
