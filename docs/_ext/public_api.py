"""The public modules of all distributions, their names, and the page that documents each name."""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

from sphinx.pycode import ModuleAnalyzer

import glowplug
import glowplug_testing
from glowplug.plugins import FIRST_PARTY

__all__ = ["ROOT", "Export", "description", "is_described", "public_exports", "summary"]

ROOT = Path(__file__).parents[2]


class Export(NamedTuple):
    """A name that a module exports.

    Args:
        module: The module.
        name: The name.
        value: What the name refers to.
        home: The module whose page documents the value; another module exports it too.
    """

    module: str
    name: str
    value: Any
    home: str


def description(export: Export) -> str:
    """Return the docstring of a class or a function, or the one below the definition of a constant."""
    if isinstance(export.value, type) or inspect.isroutine(export.value):
        return inspect.getdoc(export.value) or ""
    for name, module in list(sys.modules.items()):
        if name.startswith("glowplug") and vars(module).get(export.name) is export.value:
            lines = ModuleAnalyzer.for_module(name).find_attr_docs().get(("", export.name))
            if lines:
                return "\n".join(lines)
    return inspect.cleandoc(vars(export.value)["__doc__"])


def summary(docstring: str) -> str:
    """Return the first line of a docstring, in which names are no links."""
    return re.sub(r":\w+:`~?([^`]+)`", r"``\1``", docstring.partition("\n")[0])


def public_modules() -> list[str]:
    """Return the modules without underscore of the core, and the packages of the plugins."""
    core = [module.name for module in walk_packages(glowplug.__path__, "glowplug.")]
    plugins = sorted(path.parent.name for path in ROOT.glob("plugins/*/src/*/__init__.py"))
    return ["glowplug", *(name for name in core if "._" not in name and not name.endswith("__")), *plugins]


def exported_names(module: str) -> list[str]:
    """Return the names in ``__all__`` of a module, and the names of this project's plugins that it provides."""
    loaded = import_module(module)
    plugins = [name for name in dir(loaded) if name in FIRST_PARTY and name not in loaded.__all__]
    if module == "glowplug.testing":
        plugins = glowplug_testing.__all__
    return [*loaded.__all__, *plugins] if module.startswith("glowplug.") else loaded.__all__


@cache
def public_exports() -> dict[str, list[Export]]:
    """Return the exports of each public module.

    The home of a value is the innermost of the public modules around its definition.
    """
    found = [
        (module, name, getattr(import_module(module), name))
        for module in public_modules()
        for name in exported_names(module)
    ]
    exporters = defaultdict(list)
    for module, name, value in found:
        exporters[name, id(value)].append(module)
    exports = defaultdict(list)
    for module, name, value in found:
        defined = getattr(value, "__module__", None) or ""
        home = max(
            exporters[name, id(value)],
            key=lambda candidate, defined=defined: len(candidate) * f"{defined}.".startswith(f"{candidate}."),
        )
        exports[module].append(Export(module, name, value, home))
    return dict(exports)


def is_described(cls: type) -> bool:
    """Return whether a class has a description somewhere: on a page of the API, or in the documentation of another library."""
    return cls.__module__.partition(".")[0].partition("_")[0] != "glowplug" or cls in public_classes()


@cache
def public_classes() -> frozenset[type]:
    """Return the classes that have a description on a page of the API."""
    return frozenset(
        each.value
        for exports in public_exports().values()
        for each in exports
        if isinstance(each.value, type)
    )
