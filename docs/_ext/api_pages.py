"""Describes the API: a page for each public module, with every name that the module exports."""

from __future__ import annotations

import inspect
import re
import sys
from abc import ABC
from enum import Enum
from textwrap import indent
from typing import TYPE_CHECKING, Any, Generic, Protocol

from public_api import Export, description, is_described, public_exports, summary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

__all__ = ["api_pages", "setup"]

# Bases that say nothing about a class.
UNIVERSAL = {object, ABC, Enum, Generic, Protocol}
TOCTREE = """
.. toctree::
   :hidden:
   :glob:

   *
"""


def directive(export: Export) -> str:
    """Return the directive that documents a name."""
    path, value = f"{export.module}.{export.name}", export.value
    if isinstance(value, type):
        options = [":members:", f":inherited-members: {', '.join(described_bases(value))}"]
        options += [":undoc-members:"] * issubclass(value, Enum)
        options += [":show-inheritance:"] * (shown_bases(value.__bases__) != [object])
        return f".. autoclass:: {path}\n" + "".join(f"   {option}\n" for option in options)
    if inspect.isroutine(value):
        return f".. autofunction:: {path}\n"
    value = f"   :value: {value!r}\n" if isinstance(value, str | int | float) else ""
    return f".. py:data:: {export.name}\n{value}\n{indent(description(export), '   ')}\n"


def described_bases(cls: type) -> list[str]:
    """Return the names of the bases whose members the page of a class does not repeat.

    These are the bases with a description, and their own bases.
    """
    return sorted({base.__name__ for each in cls.__mro__[1:] if is_described(each) for base in each.__mro__})


def shown_bases(bases: Iterable[type]) -> list[type]:
    """Return bases in which the bases of each base without a description replace this base."""
    shown: list[type] = []
    for base in bases:
        shown += [base] if is_described(base) else shown_bases(base.__bases__)
    return [base for base in dict.fromkeys(shown) if base not in UNIVERSAL] or [object]


def table(rows: dict[str, str]) -> str:
    """Return a table of names, as references, and their summaries."""
    lines = [f"   * - :py:obj:`~{name}`\n     - {text}\n" for name, text in rows.items()]
    return ".. list-table::\n   :widths: auto\n\n" + "".join(lines)


def module_page(module: str, exports: list[Export]) -> str:
    """Return the page of a module: its own names, and a table of the names that other modules define."""
    parts = [f"{module}\n{'=' * len(module)}\n", f".. automodule:: {module}\n"]
    parts += [directive(export) for export in exports if export.home == module]
    others = {
        f"{each.home}.{each.name}": summary(description(each)) for each in exports if each.home != module
    }
    if others:
        parts += [".. rubric:: Names that are described on other pages\n", table(others)]
    return "\n".join(parts)


def api_pages(exports: dict[str, list[Export]]) -> dict[str, str]:
    """Return the texts of the pages about modules."""
    found = {f"api/{module}.rst": module_page(module, names) for module, names in exports.items()}
    modules = table({module: summary(sys.modules[module].__doc__) for module in exports}).replace("`~", "`")
    return {**found, "api/index.rst": f"API\n===\n\n{modules}{TOCTREE}"}


def replace_bases(app: Sphinx, name: str, cls: type, options: object, bases: list[type]) -> None:
    """Show only bases with a description."""
    bases[:] = shown_bases(cls.__bases__)


def replace_signature(
    app: Sphinx,
    kind: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Hide signatures that mean nothing to a reader, and show defaults that are no Python as ``...``.

    The former are the signatures of enumerations, protocols and the tests of contracts; the latter are functions and factories
    of dataclasses.
    """
    is_protocol = getattr(value, "_is_protocol", False)
    is_enumeration = isinstance(value, type) and issubclass(value, Enum)
    if is_protocol or is_enumeration or ".test_" in name:
        return "", None
    return signature and re.sub(r"<factory>|<function \w+>", "...", signature), result


def skip_member(app: Sphinx, kind: str, name: str, value: object, skip: bool, options: object) -> bool | None:
    """Skip what the page describes elsewhere: the fields of a named tuple, and the list of the checks of a contract."""
    is_field = (getattr(value, "__doc__", None) or "").startswith("Alias for field number")
    return True if is_field or name.rpartition(".")[2] == "checks" else None


def add_aliases(app: Sphinx, env: BuildEnvironment) -> None:
    """Let each further path of a name, such as ``glowplug.Engine``, refer to the description at its home."""
    objects = env.domains.python_domain.objects
    for exports in public_exports().values():
        for each in exports:
            home = f"{each.home}.{each.name}"
            if each.home != each.module and home in objects:
                objects[f"{each.module}.{each.name}"] = objects[home]._replace(aliased=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("autodoc-process-bases", replace_bases)
    app.connect("autodoc-process-signature", replace_signature)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("env-updated", add_aliases)
    return {"parallel_read_safe": True}
