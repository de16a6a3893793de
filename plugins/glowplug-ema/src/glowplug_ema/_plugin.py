"""Plugin hooks of this distribution; this module imports no large libraries."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the handlers of this distribution."""
    return [
        Offer(
            "EMAHandler",
            "glowplug_ema.ema_handler:EMAHandler",
            kind="handler",
            summary="Keeps an exponential moving average of a model's weights.",
        ),
        Offer(
            "SWAHandler",
            "glowplug_ema.swa_handler:SWAHandler",
            kind="handler",
            summary="Averages the weights that a model has at the end of several epochs.",
        ),
    ]
