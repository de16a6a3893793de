"""The installed plugins: discovery, loading and the registry of their offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug._lazy import lazy_exports

if TYPE_CHECKING:
    from glowplug.plugins._catalogue import CATALOGUE, FIRST_PARTY, PublishedPlugin
    from glowplug.plugins._creation import create_offer
    from glowplug.plugins._discovery import (
        InstalledPlugin,
        PluginIdentity,
        describe_entry_points,
        installed_plugins,
        is_beside,
    )
    from glowplug.plugins._equivalents import EQUIVALENTS
    from glowplug.plugins._exports import plugin_exports
    from glowplug.plugins._loading import HOOKS, Plugin, PluginFailure, describe_error
    from glowplug.plugins._registry import (
        SLOW_IMPORT_SECONDS,
        Registry,
        get_registry,
        save_handler,
        to_scalar,
        use_registry,
    )
    from glowplug.plugins._replacements import REPLACEMENTS
    from glowplug.plugins._settings import (
        ALLOW_VARIABLE,
        BLOCK_VARIABLE,
        STRICT_VARIABLE,
        TRACE_VARIABLE,
        is_tracing,
    )

__all__ = [
    "ALLOW_VARIABLE",
    "BLOCK_VARIABLE",
    "CATALOGUE",
    "EQUIVALENTS",
    "FIRST_PARTY",
    "HOOKS",
    "REPLACEMENTS",
    "SLOW_IMPORT_SECONDS",
    "STRICT_VARIABLE",
    "TRACE_VARIABLE",
    "InstalledPlugin",
    "Plugin",
    "PluginFailure",
    "PluginIdentity",
    "PublishedPlugin",
    "Registry",
    "create_offer",
    "describe_entry_points",
    "describe_error",
    "get_registry",
    "installed_plugins",
    "is_beside",
    "is_tracing",
    "lazy_exports",
    "plugin_exports",
    "save_handler",
    "to_scalar",
    "use_registry",
]

# Import lazily: only loading plugins needs pluggy; reading their metadata does not.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug.plugins._catalogue": ("CATALOGUE", "FIRST_PARTY", "PublishedPlugin"),
        "glowplug.plugins._creation": ("create_offer",),
        "glowplug.plugins._discovery": (
            "InstalledPlugin",
            "PluginIdentity",
            "describe_entry_points",
            "installed_plugins",
            "is_beside",
        ),
        "glowplug.plugins._equivalents": ("EQUIVALENTS",),
        "glowplug.plugins._exports": ("plugin_exports",),
        "glowplug.plugins._loading": ("HOOKS", "Plugin", "PluginFailure", "describe_error"),
        "glowplug.plugins._registry": (
            "SLOW_IMPORT_SECONDS",
            "Registry",
            "get_registry",
            "save_handler",
            "to_scalar",
            "use_registry",
        ),
        "glowplug.plugins._replacements": ("REPLACEMENTS",),
        "glowplug.plugins._settings": (
            "ALLOW_VARIABLE",
            "BLOCK_VARIABLE",
            "STRICT_VARIABLE",
            "TRACE_VARIABLE",
            "is_tracing",
        ),
    },
)
