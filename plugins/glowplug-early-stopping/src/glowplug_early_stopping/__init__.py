"""Early stopping for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_early_stopping._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_early_stopping.early_stopping import EarlyStopping
    from glowplug_early_stopping.limits import StopReason

__all__ = ["EarlyStopping", "StopReason"]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_early_stopping.early_stopping": ("EarlyStopping",),
        "glowplug_early_stopping.limits": ("StopReason",),
    },
)
