"""MLflow logger for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_mlflow._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_mlflow.logger import MLflowLogger

__all__ = ["MLflowLogger"]

# Loading the plugin imports this package, so its modules are imported lazily.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug_mlflow.logger": ("MLflowLogger",)})
