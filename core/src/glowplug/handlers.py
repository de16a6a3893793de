"""The handlers of the installed plugins, by name: ``from glowplug.handlers import EarlyStopping``.

The core's own log handlers, which work with any logger, are here too; their home is ``glowplug.loggers``.

Type checkers know nothing of a name that is looked up like this; typed code imports it from its own package, as in
``from glowplug_early_stopping import EarlyStopping``.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowplug.loggers import (
        GradsHistHandler,
        GradsScalarHandler,
        OptimizerParamsHandler,
        OutputHandler,
        WeightsHistHandler,
        WeightsScalarHandler,
        global_step_from_engine,
    )

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


def create(name: str, /, **options: Any) -> Any:
    """Make a handler from its name and its options, as a configuration file has them.

    Args:
        name: what a plugin offers, as in ``"EarlyStopping"``.
        **options: given to it as they are.

    Returns:
        The handler.

    Raises:
        PluginNotFoundError: no plugin that may load offers the name; the text says how to get one that does.
        PluginLoadError: the plugin that offers it does not work.
        PluginConflictError: several plugins offer it.
        TypeError: an option that the handler does not have, or one that it needs; the text lists those it has.

    Example:
        >>> try:
        ...     create("NoSuchHandler", patience=3)
        ... except ImportError as error:
        ...     print(str(error)[:44])
        no plugin offers the handler 'NoSuchHandler'
    """
    from glowplug.plugins import get_registry

    factory = get_registry().resolve("handler", name)
    _check_options(name, factory, options)
    return factory(**options)


def _check_options(name: str, factory: Any, options: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:
        return  # a class written in C may have no signature; calling it will tell
    try:
        signature.bind(**options)
    except TypeError as error:
        unknown = [option for option in options if option not in signature.parameters]
        matches = [
            match for option in unknown for match in get_close_matches(option, signature.parameters, n=1)
        ]
        hint = f" Did you mean {', '.join(matches)}?" if matches else ""
        raise TypeError(f"{name}: {error}.{hint} Its options: {name}{signature}") from None


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in __all__:
        from glowplug import loggers

        return getattr(loggers, name)
    from glowplug.plugins import get_registry

    registry = get_registry()
    if name[0].islower() and name not in registry.names("handler"):
        # Tools probe modules for lower-case names such as pytest_plugins.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.resolve("handler", name)


def __dir__() -> list[str]:
    from glowplug.plugins import get_registry

    return sorted({*__all__, *get_registry().names("handler")})
