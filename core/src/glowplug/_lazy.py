"""Lazy exports: names imported on first access (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(
    package: str, homes: Mapping[str, tuple[str, ...]], submodules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package that imports names on first access.

    Args:
        package: The ``__name__`` of the package.
        homes: Maps each module to the names to import from it.
        submodules: Names of the package's submodules that are imported on first access.

    Returns:
        The functions ``__getattr__`` and ``__dir__``.

    Example:
        >>> __getattr__, __dir__ = lazy_exports(__name__, {"glowplug.handles": ("RemovableEventHandle",)})
        >>> __getattr__("RemovableEventHandle").__name__
        'RemovableEventHandle'
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    modules = frozenset(submodules)

    def __getattr__(name: str) -> Any:  # noqa: N807 - the hook of PEP 562
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807 - the hook of PEP 562
        module = sys.modules[package]
        return sorted({*vars(module), *module.__all__, *modules})

    return __getattr__, __dir__
