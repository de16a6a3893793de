"""Metrics of torchmetrics for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_torchmetrics._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_torchmetrics.torch_metric import TorchMetric

__all__ = ["TorchMetric"]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug_torchmetrics.torch_metric": ("TorchMetric",)})
