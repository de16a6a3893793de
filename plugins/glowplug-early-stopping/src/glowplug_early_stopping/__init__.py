"""EarlyStopping for glowplug: stop an engine when a score no longer improves."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports

if TYPE_CHECKING:
    from glowplug_early_stopping.early_stopping import EarlyStopping

__all__ = ["EarlyStopping"]

# Discovery imports this package; its modules are imported when their names are used.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug_early_stopping.early_stopping": ("EarlyStopping",)})
