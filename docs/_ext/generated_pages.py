"""Writes the pages that are made from the code: one for each public module, distribution and example script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tomllib
from api_pages import api_pages
from public_api import ROOT, public_exports

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup"]

SITE = ROOT / "docs"
DISTRIBUTION = """```{{include}} ../../{folder}/README.md
```

The classes and functions are described in {{py:mod}}`{package}`.
"""
DISTRIBUTIONS = """# Distributions

{table}

```{{toctree}}
:hidden:
:glob:

*
```
"""
SCRIPT = """---
orphan: true
---

# {name}

```{{literalinclude}} ../examples/{name}
```
"""


def distribution_pages() -> dict[str, str]:
    """Return the texts of the pages about distributions."""
    found, rows = {}, ["| distribution | provides |", "|---|---|"]
    for folder in [ROOT / "core", *sorted(ROOT.glob("plugins/*"))]:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        name, package = project["name"], project["name"].replace("-", "_")
        rows.append(f"| [{name}]({name}.md) | {project['description']} |")
        found[f"distributions/{name}.md"] = DISTRIBUTION.format(
            folder=folder.relative_to(ROOT), package=package
        )
    return {**found, "distributions/index.md": DISTRIBUTIONS.format(table="\n".join(rows))}


def script_pages() -> dict[str, str]:
    """Return the texts of the pages that show an example script; the gallery lists them, and the navigation does not."""
    names = (path.name for end in ("py", "toml") for path in SITE.glob(f"examples/*.{end}"))
    return {f"scripts/{name}.md": SCRIPT.format(name=name) for name in names}


def write_pages(app: Sphinx) -> None:
    """Write each page whose text has changed, and remove the pages of modules and scripts that no longer exist."""
    pages = {**api_pages(public_exports()), **distribution_pages(), **script_pages()}
    wanted = {SITE / name: text for name, text in pages.items()}
    for folder in {path.parent for path in wanted}:
        folder.mkdir(exist_ok=True)
        for path in set(folder.iterdir()) - wanted.keys():
            path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
