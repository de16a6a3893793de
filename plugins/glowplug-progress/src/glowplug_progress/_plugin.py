"""Plugin hooks of this distribution; this module imports no large libraries."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the handlers of this distribution."""
    return [
        Offer(
            "ProgressBar",
            "glowplug_progress.progress_bar:ProgressBar",
            kind="handler",
            summary="Shows bars of epochs or iterations with tqdm or rich, and a line per epoch.",
        ),
    ]
