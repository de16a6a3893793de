"""Folders for files that outlive a process."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["HOME_VARIABLE", "spool_folder", "state_folder"]

HOME_VARIABLE = "GLOWPLUG_HOME"
"""Environment variable that overrides the platform's default state folder."""


def state_folder() -> Path:
    """Return the folder in which glowplug stores files for the current user, without creating it.

    Example:
        >>> state_folder().is_absolute()
        True
    """
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_state_path

    return user_state_path("glowplug", appauthor=False)


def spool_folder() -> Path:
    """Return the folder for undelivered log records, without creating it.

    Example:
        >>> spool_folder().name
        'spool'
    """
    return state_folder() / "spool"
