"""The stubs name every first-party offer, and mypy refuses wrong programs."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import glowplug
from glowplug.plugins import Registry

ROOT = Path(__file__).parents[2]
CORE = Path(glowplug.__file__).parent
WRONG = ROOT / "tests" / "typing" / "wrong"


@pytest.mark.parametrize(
    ("stub", "kinds", "module"),
    [
        (
            "handlers.pyi",
            {"handler", "logger", "log_handler", "save_handler", "policy", "filter"},
            "handlers",
        ),
        ("metrics/__init__.pyi", {"metric"}, "metrics"),
    ],
)
def test_stub_has_every_offer(stub, kinds, module):
    """The stub exports the core's own names, and each offered name from the package of the plugin that offers it."""
    registry = Registry.from_entry_points(
        importlib.metadata.entry_points(group="glowplug"), {"GLOWPLUG_PLUGINS": "glowplug-*"}
    )
    expected = {
        offer.name: plugin.module.partition(".")[0]
        for plugin in registry.plugins
        for offer in plugin.offers
        if offer.kind in kinds
    }
    tree = ast.parse((CORE / stub).read_text(encoding="utf-8"))
    found = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    plugins = {name: home for name, home in found.items() if home.startswith("glowplug_")}
    assert plugins == expected
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(getattr(glowplug, module).__all__) <= found.keys() | functions


@pytest.mark.skipif(find_spec("mypy") is None, reason="needs mypy")
def test_wrong_programs_are_refused():
    """On each line marked ``expect``, mypy reports the error that the mark names; it reports no other errors."""
    paths = sorted(WRONG.glob("*.py"))
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = {
        (Path(path).name, int(line), code)
        for path, line, code in re.findall(
            r"^(.*?):(\d+): error: .*\[([\w-]+)\]$", ended.stdout, re.MULTILINE
        )
    }
    expected = {
        (path.name, number, code)
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for code in re.findall(r"# expect: ([\w-]+)", line)
    }
    assert found == expected, ended.stdout
