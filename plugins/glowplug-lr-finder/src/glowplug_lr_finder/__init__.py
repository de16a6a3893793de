"""A learning rate range test for glowplug trainers."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_lr_finder._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_lr_finder.lr_finder import FastaiLRFinder, LRFinder

__all__ = ["FastaiLRFinder", "LRFinder"]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__, {"glowplug_lr_finder.lr_finder": ("FastaiLRFinder", "LRFinder")}
)
