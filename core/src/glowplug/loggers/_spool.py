"""Where glowplug keeps what must outlive a process: the one place that says so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["HOME_VARIABLE", "home_folder", "spool_folder"]

HOME_VARIABLE = "GLOWPLUG_HOME"
"""Environment variable: the folder, where the platform's usual one will not do."""


def home_folder() -> Path:
    """Return the folder of this user; nothing is created.

    Example:
        >>> home_folder().is_absolute()
        True
    """
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "glowplug"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "glowplug"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "glowplug"


def spool_folder() -> Path:
    """Return the folder for records that wait on disk for a backend; nothing is created.

    Example:
        >>> spool_folder().name
        'spool'
    """
    return home_folder() / "spool"
