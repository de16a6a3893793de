"""The built site: its links, its navigation, its API pages and its search."""

import importlib
import json
import pkgutil
import re
import zlib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import glowplug
import glowplug.handlers
import glowplug.metrics

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "_build" / "html"
# Pages that Sphinx makes itself.
MADE_BY_SPHINX = {"genindex.html", "py-modindex.html", "search.html"}

pytestmark = pytest.mark.skipif(not SITE.exists(), reason="tox run -e docs builds the site")


class Page(HTMLParser):
    """The anchors of a page, the targets of its links and pictures, and the links in the sidebar."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.targets, self.navigation = {"", "top"}, [], set()
        self._is_navigation = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "id" in attributes:
            self.anchors.add(attributes["id"])
        if tag == "div":
            self._is_navigation = "sidebar-tree" in (attributes.get("class") or "")
        target = attributes.get("href") or attributes.get("src")
        if target and not urlsplit(target).scheme:
            self.targets.append(target)
            if self._is_navigation:
                self.navigation.add(target)


@cache
def pages():
    """Map the path of each page to the page."""
    return {path.resolve(): Page(path) for path in SITE.rglob("*.html") if "_static" not in path.parts}


@cache
def inventory():
    """Return the names in objects.inv, with their pages."""
    header, _, data = (SITE / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert header.startswith(b"# Sphinx inventory version 2")
    rows = re.findall(r"^(\S+) py:(?!module)\w+ \S+ (\S+)", zlib.decompress(data).decode(), re.MULTILINE)
    return {name: uri.partition("#")[0] for name, uri in rows}


def public_names():
    """Return the names that the public modules export, and those that plugins offer below glowplug."""
    modules = [module.name for module in pkgutil.walk_packages(glowplug.__path__, "glowplug.")]
    modules = ["glowplug", *(name for name in modules if "._" not in name)]
    modules += [path.parent.name for path in ROOT.glob("plugins/*/src/*/__init__.py")]
    names = {f"{module}.{name}" for module in modules for name in importlib.import_module(module).__all__}
    for module in (glowplug.handlers, glowplug.metrics):
        names |= {f"{module.__name__}.{name}" for name in dir(module)}
    return names


def test_local_links_resolve():
    """The file, and the anchor if there is one, of each link and picture in a page exists."""
    broken = []
    for path, page in pages().items():
        for target in page.targets:
            parts = urlsplit(target)
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not file.is_file() or (
                file in pages() and unquote(parts.fragment) not in pages()[file].anchors
            ):
                broken.append(f"{path.relative_to(SITE)}: {target}")
    assert len(pages()) > 100
    assert broken == []


def test_every_page_is_in_the_navigation():
    """The sidebar of the front page leads to every page, and the gallery to every script."""
    listed = pages()[SITE / "index.html"].navigation
    listed |= {f"scripts/{Path(target).name}" for target in pages()[SITE / "examples/index.html"].targets}
    there = {path.relative_to(SITE).as_posix() for path in pages()}
    assert there - listed - MADE_BY_SPHINX == {"index.html"}


def test_every_public_name_is_described():
    """Each name that a public module exports or a plugin offers has a description, and its page contains it."""
    names = public_names()
    assert {"glowplug.Engine", "glowplug.handlers.EarlyStopping", "glowplug_mlflow.MLflowLogger"} <= names
    assert names - inventory().keys() == set()
    for name in names:
        assert any(
            anchor.endswith(f".{name.rpartition('.')[2]}")
            for anchor in pages()[SITE / inventory()[name]].anchors
        ), name


def test_signatures_are_python():
    """No signature shows the repr of a function or of the environment variables of the build instead of a default."""
    shown = {
        path.name: re.findall(
            r"&lt;(?:built-in|function|factory|object)\b|environ\(", path.read_text(encoding="utf-8")
        )
        for path in SITE.glob("api/*.html")
    }
    assert {name: found for name, found in shown.items() if found} == {}


def test_every_distribution_has_a_page():
    """The page of each distribution has the name of the distribution and the sections of its README."""
    for readme in [ROOT / "core" / "README.md", *ROOT.glob("plugins/*/README.md")]:
        text = re.sub(r"^```.*?^```", "", readme.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        name, *sections = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        page = pages()[SITE / "distributions" / f"{name}.html"]
        anchors = {re.sub(r"[^\w -]", "", section.lower()).replace(" ", "-") for section in sections}
        assert anchors - page.anchors == set()


def test_search_finds_public_names():
    """The index of the search has the classes and functions of each module, and their words."""
    text = (SITE / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    found = {f"{module}.{entry[4]}" for module, entries in index["objects"].items() for entry in entries}
    assert {"glowplug.engine.Engine", "glowplug_metrics.Accuracy", "glowplug.events.Events.STARTED"} <= found
    assert {"earlystop", "checkpoint"} & index["terms"].keys()
