"""The installed plugins: what they offer, and which of them work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug._lazy import lazy_exports

if TYPE_CHECKING:
    from glowplug.plugins._discovery import InstalledPlugin, installed_plugins, is_beside
    from glowplug.plugins._loading import Plugin, PluginFailure, one_line
    from glowplug.plugins._registry import Registry, get_registry, save_handler, to_scalar, use_registry
    from glowplug.plugins._settings import STRICT_VARIABLE

__all__ = [
    "STRICT_VARIABLE",
    "InstalledPlugin",
    "Plugin",
    "PluginFailure",
    "Registry",
    "get_registry",
    "installed_plugins",
    "is_beside",
    "one_line",
    "save_handler",
    "to_scalar",
    "use_registry",
]

# Reading the metadata of plugins does not need pluggy; loading them does.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug.plugins._discovery": ("InstalledPlugin", "installed_plugins", "is_beside"),
        "glowplug.plugins._loading": ("Plugin", "PluginFailure", "one_line"),
        "glowplug.plugins._registry": (
            "Registry",
            "get_registry",
            "save_handler",
            "to_scalar",
            "use_registry",
        ),
        "glowplug.plugins._settings": ("STRICT_VARIABLE",),
    },
)
