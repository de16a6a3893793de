"""The command ``glowplug``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug._lazy import lazy_exports

if TYPE_CHECKING:
    from glowplug.cli._main import main

__all__ = ["main"]

# Import lazily: the subprocess that loads plugins imports this package but must not import click.
__getattr__, __dir__ = lazy_exports(__name__, {"glowplug.cli._main": ("main",)})
