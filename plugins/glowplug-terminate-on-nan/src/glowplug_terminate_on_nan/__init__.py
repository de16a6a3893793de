"""A handler that stops glowplug engines when their output contains NaN or infinity."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_terminate_on_nan._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_terminate_on_nan.terminate_on_nan import TerminateOnNan

__all__ = ["TerminateOnNan"]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__, {"glowplug_terminate_on_nan.terminate_on_nan": ("TerminateOnNan",)}
)
