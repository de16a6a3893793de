"""TensorBoard logger for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_tensorboard._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_tensorboard.logger import TensorboardLogger

__all__ = ["TensorboardLogger"]

# Loading the plugin imports this package, so its modules are imported lazily.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug_tensorboard.logger": ("TensorboardLogger",)})
