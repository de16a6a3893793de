"""``GLOWPLUG_TRACE_PLUGINS=1``: what discovery does, step by step, for an author whose plugin is not found.

It goes straight to standard error: a library configures no logging, and who looks for a plugin has none set up.
"""

from __future__ import annotations

import os
import sys

__all__ = ["TRACE_VARIABLE", "is_on", "is_tracing", "trace"]

TRACE_VARIABLE = "GLOWPLUG_TRACE_PLUGINS"
"""Environment variable: ``1`` has each step of discovery printed to standard error."""


def is_on(value: str | None) -> bool:
    """Return whether the value of an environment variable says yes.

    Example:
        >>> [is_on(value) for value in ("1", "true", "0", "off", "", None)]
        [True, True, False, False, False, False]
    """
    return (value or "").strip().lower() not in {"", "0", "false", "no", "off"}


def is_tracing() -> bool:
    """Return whether the steps are printed."""
    return is_on(os.environ.get(TRACE_VARIABLE))


def trace(step: str) -> None:
    """Print one step, on one line, if the user wants to see them.

    Args:
        step: what was done, and to which plugin.

    Example:
        >>> trace("nobody sees this")
    """
    if is_tracing() and sys.stderr is not None:
        print(f"glowplug plugins: {' '.join(step.split())}", file=sys.stderr, flush=True)  # noqa: T201 what it is for
