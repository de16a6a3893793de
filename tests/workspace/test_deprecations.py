"""The deprecations of all distributions."""

import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.version import Version

import glowplug

ROOT = Path(__file__).parents[2]
# In a new process, only the modules of the distributions have added deprecations.
LIST_DEPRECATIONS = """
import importlib, json, pkgutil, sys
from dataclasses import asdict
from glowplug.deprecation import DEPRECATIONS
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
print(json.dumps([asdict(deprecation) for deprecation in DEPRECATIONS]))
"""

Deprecation = namedtuple("Deprecation", ["name", "since", "removed_in", "use"])  # noqa: PYI024 - has no types


def overdue(deprecations, version):
    """Return the deprecations that the version should no longer have, in words."""
    return [
        f"{name}: remove it, or correct removed_in={removed_in!r}; this is version {version}"
        for name, _, removed_in, _ in deprecations
        if Version(removed_in) <= Version(version)
    ]


def test_nothing_is_overdue():
    """No name is still there in the version that should remove it; names are removed in major versions only."""
    packages = [path.parent.name for path in ROOT.glob("plugins/*/src/*/__init__.py")]
    listed = subprocess.run(
        [sys.executable, "-c", LIST_DEPRECATIONS, "glowplug", *packages],
        capture_output=True, text=True, check=True, timeout=180,
    ).stdout  # fmt: skip
    deprecations = [Deprecation(**fields) for fields in json.loads(listed.splitlines()[-1])]
    assert overdue(deprecations, glowplug.__version__) == []
    for deprecation in deprecations:
        assert Version(deprecation.since) < Version(deprecation.removed_in), deprecation
        assert not any(Version(deprecation.removed_in).release[1:]), deprecation


@pytest.mark.parametrize(
    ("version", "names"), [("1.9", []), ("2.0.0rc1", []), ("2.0.0", ["twice"]), ("3.0", ["twice", "rate"])]
)
def test_overdue(version, names):
    """A deprecation is overdue from the version that should remove the name."""
    deprecations = [Deprecation("twice", "0.3", "2.0", "double"), Deprecation("rate", "0.3", "3.0", "lr")]
    assert [text.partition(":")[0] for text in overdue(deprecations, version)] == names
