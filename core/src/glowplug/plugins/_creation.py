"""Creation of offered objects from their names and options."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from inspect import Parameter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
        # bind() reports a missing option first, although an unknown option may be a misspelling of it.
        reason = next(_unknown_options(signature, options), f"{error}.")
        raise TypeError(f"{name}: {reason} Signature: {name}{signature}") from None


def _unknown_options(signature: inspect.Signature, options: Mapping[str, Any]) -> Iterator[str]:
    """Describe each unknown option; if the constructor accepts any option, only those that are close to a known one."""
    kinds = {parameter.name: parameter.kind for parameter in signature.parameters.values()}
    known = [
        each
        for each, kind in kinds.items()
        if kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    accepts_any = Parameter.VAR_KEYWORD in kinds.values()
    for option in options:
        matches = get_close_matches(option, known, n=1)
        if option not in known and (matches or not accepts_any):
            hint = f" Did you mean {matches[0]}?" if matches else ""
            yield f"got an unexpected keyword argument {option!r}.{hint}"
