"""Plugin hooks of this distribution; this module imports no large libraries."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the handlers of this distribution."""
    return [
        Offer(
            "Timer",
            "glowplug_timers.timer:Timer",
            kind="handler",
            summary="Measures the time between events.",
        ),
        Offer(
            "TimeLimit",
            "glowplug_timers.time_limit:TimeLimit",
            kind="handler",
            summary="Terminates a run after a time limit.",
        ),
        Offer(
            "BasicTimeProfiler",
            "glowplug_timers.basic_time_profiler:BasicTimeProfiler",
            kind="handler",
            summary="Measures the time of the step, the data and the handlers of each event.",
        ),
        Offer(
            "HandlersTimeProfiler",
            "glowplug_timers.handlers_time_profiler:HandlersTimeProfiler",
            kind="handler",
            summary="Measures the time of each handler, the step and the data.",
        ),
        Offer(
            "ProfilerHandler",
            "glowplug_timers.profiler_handler:ProfilerHandler",
            kind="handler",
            summary="Writes traces of torch.profiler for TensorBoard and Perfetto.",
        ),
    ]
