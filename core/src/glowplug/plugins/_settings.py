"""Settings of plugin discovery: the environment variables, the plugins that they block, and the trace of each step.

The trace is printed to standard error, because a library must not configure logging.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase

__all__ = [
    "ALLOW_VARIABLE",
    "BLOCK_VARIABLE",
    "STRICT_VARIABLE",
    "TRACE_VARIABLE",
    "blocking_setting",
    "canonical",
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
"""Environment variable: if it is ``1``, the first faulty plugin causes an error instead of a warning."""

TRACE_VARIABLE = "GLOWPLUG_TRACE_PLUGINS"
"""Environment variable: ``1`` prints each step of discovery to standard error."""


def is_on(value: str | None) -> bool:
    """Return whether the value of an environment variable turns a setting on.

    Example:
        >>> [is_on(value) for value in ("1", "true", "0", "off", "", None)]
        [True, True, False, False, False, False]
    """
    return (value or "").strip().lower() not in {"", "0", "false", "no", "off"}


def canonical(name: str) -> str:
    """Return the normalized form of a distribution's name, which pip uses to compare names.

    Example:
        >>> canonical("Acme_Shout")
        'acme-shout'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def blocking_setting(environ: Mapping[str, str], name: str, distribution: str) -> str:
    """Return the setting that blocks a plugin, or an empty string if no setting blocks the plugin.

    Args:
        environ: Environment variables.
        name: Name of the plugin.
        distribution: Distribution that provides the plugin.

    Example:
        >>> blocking_setting({"GLOWPLUG_DISABLED_PLUGINS": "acme-*"}, "shout", "acme-shout")
        'GLOWPLUG_DISABLED_PLUGINS=acme-*'
    """
    allowed = environ.get(ALLOW_VARIABLE)
    if allowed is not None and not _matches(allowed, name, distribution):
        return f"{ALLOW_VARIABLE}={allowed}"
    blocked = environ.get(BLOCK_VARIABLE, "")
    return f"{BLOCK_VARIABLE}={blocked}" if _matches(blocked, name, distribution) else ""


def _matches(setting: str, *names: str) -> bool:
    patterns = [canonical(pattern.strip()) for pattern in setting.split(",") if pattern.strip()]
    return any(fnmatchcase(canonical(name), pattern) for name in names for pattern in patterns)


def is_tracing() -> bool:
    """Return whether the trace is enabled.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, {TRACE_VARIABLE: "1"}):
        ...     is_tracing()
        True
    """
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
