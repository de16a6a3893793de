"""torchmetrics for glowplug: any of its metrics on an engine, as it is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowplug_torchmetrics.torch_metric import TorchMetric

__all__ = ["TorchMetric"]

# Discovery imports this package on the way to its _plugin module: a name's own module waits until the name is used.
_HOMES = {
    "TorchMetric": "torch_metric",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
