"""Lets links to distributions and example scripts, which work in the repository, lead to pages of the site."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from sphinx.application import Sphinx

__all__ = ["setup"]

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#]+)(?=#|\))")
# Paths in the repository, and the pages of the site.
PAGES = {
    re.compile(r"README\.md"): "/index.md",
    re.compile(r"core(/README\.md)?"): "/distributions/glowplug.md",
    re.compile(r"plugins/([\w-]+)(/README\.md)?"): r"/distributions/\1.md",
    re.compile(r"docs/examples/(\w+\.(py|toml))"): r"/scripts/\1.md",
    re.compile(r"docs/(examples/plugins/[\w-]+)"): r"/\1/README.md",
    re.compile(r"docs/(examples/)?README\.md"): r"/\1index.md",
    re.compile(r"docs/(.+)"): r"/\1",
}


def with_links(text: str, path: str) -> str:
    """Return the text of a file in the repository with links to pages of the site."""

    def page_of(link: re.Match[str]) -> str:
        target = os.path.normpath(f"{path}/../{link[1]}")
        pages = (match.expand(page) for each, page in PAGES.items() if (match := each.fullmatch(target)))
        return next(pages, link[1])

    return LINK.sub(page_of, text)


def rewrite_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrite the links of a page."""
    source[0] = with_links(source[0], f"docs/{docname}")


def rewrite_included(app: Sphinx, path: Path, docname: str, source: list[str]) -> None:
    """Rewrite the links of a file that a page includes."""
    source[0] = with_links(source[0], os.path.normpath(f"docs/{path}"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", rewrite_page)
    app.connect("include-read", rewrite_included)
    return {"parallel_read_safe": True}
