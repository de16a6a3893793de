"""Environment variables that control plugin discovery, and the trace of its steps.

The trace is printed to standard error, because a library must not configure logging.
"""

from __future__ import annotations

import os
import sys

__all__ = [
    "ALLOW_VARIABLE",
    "BLOCK_VARIABLE",
    "STRICT_VARIABLE",
    "TRACE_VARIABLE",
    "is_on",
    "is_tracing",
    "trace",
]

ALLOW_VARIABLE = "GLOWPLUG_PLUGINS"
"""Environment variable that lists the plugins allowed to load, by name or distribution.

An empty value allows no plugins. If the variable is not set, all plugins are allowed.
"""

BLOCK_VARIABLE = "GLOWPLUG_DISABLED_PLUGINS"
"""Environment variable that lists the plugins to block, by name or distribution; ``*`` and ``?`` are wildcards."""

STRICT_VARIABLE = "GLOWPLUG_STRICT_PLUGINS"
"""Environment variable: with ``1``, the first faulty plugin raises an error instead of causing a warning."""

TRACE_VARIABLE = "GLOWPLUG_TRACE_PLUGINS"
"""Environment variable: ``1`` prints each step of discovery to standard error."""


def is_on(value: str | None) -> bool:
    """Return whether the value of an environment variable turns a setting on.

    Example:
        >>> [is_on(value) for value in ("1", "true", "0", "off", "", None)]
        [True, True, False, False, False, False]
    """
    return (value or "").strip().lower() not in {"", "0", "false", "no", "off"}


def is_tracing() -> bool:
    """Return whether the trace is enabled."""
    return is_on(os.environ.get(TRACE_VARIABLE))


def trace(step: str) -> None:
    """Print one step of discovery if the trace is enabled.

    Args:
        step: Description of the step; line breaks become spaces.

    Example:
        >>> trace("found shout")
    """
    if is_tracing() and sys.stderr is not None:
        print(f"glowplug plugins: {' '.join(step.split())}", file=sys.stderr, flush=True)  # noqa: T201 the trace is printed
