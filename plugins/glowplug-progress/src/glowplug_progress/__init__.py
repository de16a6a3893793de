"""Progress bars for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_progress._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_progress.progress_bar import ProgressBar

__all__ = ["ProgressBar"]

# Loading the plugin imports this package, so its modules are imported only when one of their names is used.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug_progress.progress_bar": ("ProgressBar",)})
