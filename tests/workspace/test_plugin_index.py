"""The catalogue of published plugins, and the page that shows it."""

import runpy
import sys
from pathlib import Path

import pytest
import tomllib

from glowplug.plugins import CATALOGUE

ROOT = Path(__file__).parents[2]
OWN = [path for path in sorted((ROOT / "plugins").glob("glowplug-*")) if path.name != "glowplug-testing"]
THIRD_PARTY = CATALOGUE[len(OWN) :]


def test_own_plugins_come_first():
    """The plugins of this project are first, with the summaries of their metadata and the addresses of their source."""
    projects = [
        tomllib.loads((path / "pyproject.toml").read_text(encoding="utf-8"))["project"] for path in OWN
    ]
    expected = [(each["name"], each["description"], each["urls"]["Source"]) for each in projects]
    assert [(each.distribution, each.summary, each.url) for each in CATALOGUE[: len(OWN)]] == expected


def test_third_party_plugins_follow():
    """Plugins of others follow in alphabetical order, with other names than those of this project."""
    names = [plugin.distribution for plugin in THIRD_PARTY]
    assert names == sorted(set(names))
    assert not [name for name in names if name.startswith("glowplug-")]
    assert all(plugin.url.startswith("https://") and plugin.offers for plugin in THIRD_PARTY)


def test_page_is_up_to_date(monkeypatch):
    """docs/reference/plugin-index.md is what .ci/plugin_index.py writes."""
    monkeypatch.setattr(sys, "path", [str(ROOT / ".ci"), *sys.path])
    script = runpy.run_path(str(ROOT / ".ci" / "plugin_index.py"))
    if script["PAGE"].read_text(encoding="utf-8") != script["page"]():
        pytest.fail(
            "docs/reference/plugin-index.md is out of date: run python .ci/plugin_index.py", pytrace=False
        )
