"""TerminateOnNan for glowplug: stop an engine when its output is not finite."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports

if TYPE_CHECKING:
    from glowplug_terminate_on_nan.terminate_on_nan import TerminateOnNan

__all__ = ["TerminateOnNan"]

# Discovery imports this package; its modules are imported when their names are used.
__getattr__, __dir__ = lazy_exports(
    __name__, {"glowplug_terminate_on_nan.terminate_on_nan": ("TerminateOnNan",)}
)
