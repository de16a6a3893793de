"""Handlers of the installed plugins, as in ``from glowplug.handlers import EarlyStopping``.

This module also re-exports the log handlers of ``glowplug.loggers``. Type checkers find the handlers of first-party plugins
in ``handlers.pyi``.
"""

# ruff: noqa: F822 - __getattr__ provides the names in __all__

from __future__ import annotations

from typing import Any

from glowplug.plugins import create_offer, plugin_exports

__all__ = [
    "GradsHistHandler",
    "GradsScalarHandler",
    "OptimizerParamsHandler",
    "OutputHandler",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "create",
    "global_step_from_engine",
]


__getattr__, __dir__ = plugin_exports(
    __name__, "handler", {"glowplug.loggers": tuple(set(__all__) - {"create"})}
)


def create(name: str, /, **options: Any) -> Any:
    """Create a handler or a logger from its name and its options, for example from the entries of a configuration file.

    Args:
        name: Name that a plugin offers, such as ``"EarlyStopping"``.
        **options: Keyword arguments of the handler's constructor.

    Returns:
        The handler.

    Raises:
        PluginNotFoundError: If no loaded plugin offers the name.
        PluginLoadError: If the plugin that offers the name is faulty.
        PluginConflictError: If several plugins offer the name.
        TypeError: If an option is unknown, or if a required option is missing.

    Example:
        >>> try:
        ...     create("NoSuchHandler", patience=3)
        ... except ImportError as error:
        ...     print(str(error)[:44])
        no plugin offers the handler 'NoSuchHandler'
    """
    return create_offer("handler", name, options)
