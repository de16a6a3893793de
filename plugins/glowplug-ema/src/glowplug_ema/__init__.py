"""Averages of a model's weights, kept by handlers of glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_ema._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_ema.ema_handler import EMAHandler
    from glowplug_ema.swa_handler import SWAHandler

__all__ = ["EMAHandler", "SWAHandler"]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_ema.ema_handler": ("EMAHandler",),
        "glowplug_ema.swa_handler": ("SWAHandler",),
    },
)
