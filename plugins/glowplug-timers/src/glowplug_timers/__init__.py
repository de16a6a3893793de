"""Timers, time limits and profilers for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_timers._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_timers.basic_time_profiler import BasicTimeProfiler
    from glowplug_timers.handlers_time_profiler import HandlersTimeProfiler
    from glowplug_timers.profiler_handler import ProfilerHandler
    from glowplug_timers.time_limit import TimeLimit
    from glowplug_timers.timer import Timer

__all__ = ["BasicTimeProfiler", "HandlersTimeProfiler", "ProfilerHandler", "TimeLimit", "Timer"]

# Loading the plugin imports this package, so its modules are imported only when one of their names is used.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_timers.basic_time_profiler": ("BasicTimeProfiler",),
        "glowplug_timers.handlers_time_profiler": ("HandlersTimeProfiler",),
        "glowplug_timers.profiler_handler": ("ProfilerHandler",),
        "glowplug_timers.time_limit": ("TimeLimit",),
        "glowplug_timers.timer": ("Timer",),
    },
)
