"""The example plugin of docs/examples/plugins, installed from its wheel."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

NAME = "acme-glowplug-time-limit"
PACKAGE = NAME.replace("-", "_")
README = Path(__file__).parents[2] / "docs" / "examples" / "plugins" / NAME / "README.md"

try:
    DISTRIBUTION = importlib.metadata.distribution(NAME)
except importlib.metadata.PackageNotFoundError:
    pytest.skip(f"{NAME} is not installed", allow_module_level=True)


def run(*command, folder):
    """Run this interpreter in a folder and return what it printed."""
    ended = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_it_is_installed_from_its_wheel():
    """The example plugin is installed outside the source tree and requires a range of glowplug versions."""
    url = DISTRIBUTION.read_text("direct_url.json")
    assert url is None or "editable" not in url
    assert Path(DISTRIBUTION.locate_file(f"{PACKAGE}/handler.py")).is_file()
    assert "glowplug<2,>=0.1" in DISTRIBUTION.requires


def test_it_is_listed(tmp_path):
    """`glowplug plugins list` and `check` report no fault of the example plugin."""
    listed = json.loads(run("-m", "glowplug", "plugins", "list", "--json", folder=tmp_path))
    (plugin,) = [each for each in listed if each["distribution"] == NAME]
    assert (plugin["status"], plugin["findings"]) == ("ok", [])
    assert [(offer["kind"], offer["name"]) for offer in plugin["offers"]] == [
        ("handler", "TimeLimit"),
        ("event", "TimeLimitEvents"),
    ]
    run("-m", "glowplug", "plugins", "check", "acme-time-limit", folder=tmp_path)


def test_the_script_of_the_readme_runs(tmp_path):
    """The script in the README runs with warnings as errors, and imports the handler by name."""
    script = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert "from glowplug.handlers import TimeLimit" in script
    printed = run("-W", "error", "-c", script, folder=tmp_path)
    assert re.fullmatch(r"time limit reached at iteration \d+\n", printed)
