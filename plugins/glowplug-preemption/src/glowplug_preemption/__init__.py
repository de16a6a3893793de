"""A handler that saves a checkpoint and ends the process when a cluster needs the machine."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_preemption._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_preemption.preemption import Preemption

__all__ = ["Preemption"]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug_preemption.preemption": ("Preemption",)})
