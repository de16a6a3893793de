"""Early stopping for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports

if TYPE_CHECKING:
    from glowplug_early_stopping.early_stopping import EarlyStopping

__all__ = ["EarlyStopping"]

# Plugin discovery imports this package, so its modules are imported lazily.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug_early_stopping.early_stopping": ("EarlyStopping",)})
