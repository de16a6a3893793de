"""Creation of offered objects from their names and options."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from glowplug.hookspecs import OfferKind

__all__ = ["create_offer"]


def create_offer(kind: OfferKind, name: str, options: Mapping[str, Any]) -> Any:
    """Create what a plugin offers.

    Args:
        kind: Kind of the offer.
        name: Name of the offer.
        options: Keyword arguments of its constructor.

    Raises:
        PluginNotFoundError: If no loaded plugin offers the name.
        PluginLoadError: If the plugin that offers the name is faulty.
        PluginConflictError: If several plugins offer the name.
        TypeError: If an option is unknown, or if a required option is missing.

    Example:
        >>> try:
        ...     create_offer("metric", "NoSuchMetric", {})
        ... except ImportError as error:
        ...     print(str(error)[:42])
        no plugin offers the metric 'NoSuchMetric'
    """
    from glowplug.plugins._registry import get_registry

    factory = get_registry().resolve(kind, name)
    _check_options(name, factory, options)
    return factory(**options)


def _check_options(name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:
        # A class written in C may have no signature; its constructor reports the error.
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        matches = [
            match
            for option in options
            if option not in signature.parameters
            for match in get_close_matches(option, signature.parameters, n=1)
        ]
        hint = f" Did you mean {', '.join(matches)}?" if matches else ""
        raise TypeError(f"{name}: {error}.{hint} Signature: {name}{signature}") from None
