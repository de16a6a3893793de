"""Weights & Biases logger for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_wandb._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_wandb.logger import WandbLogger

__all__ = ["WandbLogger"]

# Loading the plugin imports this package, so its modules are imported lazily.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug_wandb.logger": ("WandbLogger",)})
