"""Module attributes that plugins provide, as in ``from glowplug.handlers import EarlyStopping``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from glowplug._lazy import lazy_exports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from glowplug.hookspecs import OfferKind

__all__ = ["plugin_exports"]


def plugin_exports(
    package: str, kind: OfferKind, homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a module that lazily exports its own names and the offers of plugins.

    Args:
        package: The ``__name__`` of the module.
        kind: Kind of the offers.
        homes: Maps each module to the names to import from it; see ``lazy_exports``.

    Returns:
        The functions ``__getattr__`` and ``__dir__``.

    Example:
        >>> __getattr__, __dir__ = plugin_exports(
        ...     "glowplug.metrics", "metric", {"glowplug.metrics._metric": ("Metric",)}
        ... )
        >>> "Metric" in __dir__()
        True
    """
    own_export, _ = lazy_exports(package, homes)

    def __getattr__(name: str) -> Any:  # noqa: N807 - the hook of PEP 562
        if name.startswith("_") or name in sys.modules[package].__all__:
            return own_export(name)
        from glowplug.plugins._registry import get_registry
        from glowplug.plugins._replacements import REPLACEMENTS

        registry = get_registry()
        # Tools probe modules for lower-case names such as pytest_plugins, and expect an AttributeError.
        if name[0].islower() and name not in registry.names(kind) and name not in REPLACEMENTS:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return registry.resolve(kind, name)

    def __dir__() -> list[str]:  # noqa: N807 - the hook of PEP 562
        from glowplug.plugins._registry import get_registry

        return sorted({*sys.modules[package].__all__, *get_registry().names(kind)})

    return __getattr__, __dir__
