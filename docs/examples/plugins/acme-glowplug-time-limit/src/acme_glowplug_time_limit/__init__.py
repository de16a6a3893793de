"""Time limit for glowplug engines."""

from acme_glowplug_time_limit.handler import TimeLimit, TimeLimitEvents

__all__ = ["TimeLimit", "TimeLimitEvents"]
