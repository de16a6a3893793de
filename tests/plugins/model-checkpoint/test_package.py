"""The distribution itself: what it offers, what it imports, and that its examples run."""

import doctest
import importlib
import importlib.metadata
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import glowplug_model_checkpoint
from glowplug_model_checkpoint import _plugin

MODULES = sorted(module.name for module in pkgutil.iter_modules(glowplug_model_checkpoint.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    """The examples of each module run as they stand."""
    module = importlib.import_module(f"glowplug_model_checkpoint.{name}")
    assert doctest.testmod(module).failed == 0


def test_examples_are_there():
    """There is something for the test above to run in each module that offers names to users."""
    for name in ("checkpoint", "disk_saver", "model_checkpoint", "save_handler"):
        module = importlib.import_module(f"glowplug_model_checkpoint.{name}")
        assert any(test.examples for test in doctest.DocTestFinder().find(module))


def test_lazy_names():
    """Each public name resolves, and an unknown one is an AttributeError."""
    for name in glowplug_model_checkpoint.__all__:
        assert getattr(glowplug_model_checkpoint, name).__name__ == name
        assert name in dir(glowplug_model_checkpoint)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        glowplug_model_checkpoint.Nothing  # noqa: B018 - the look-up is the test


def test_the_plugin_module_imports_no_torch():
    """Discovery does not pay for torch."""
    code = "import sys, glowplug_model_checkpoint._plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_each_target_is_there():
    """What the plugin announces can be imported and has that name."""
    for spec in (*_plugin.glowplug_handlers(), *_plugin.glowplug_events()):
        module, _, attribute = spec.target.partition(":")
        assert getattr(importlib.import_module(module), attribute).__name__ == spec.name
    entry_points = importlib.metadata.entry_points(group="glowplug", name="model-checkpoint")
    assert [entry.load() for entry in entry_points] == [_plugin]


def test_readme_script_runs(tmp_path):
    """The script of README runs as it stands, twice: the second time it resumes."""
    readme = Path(__file__).parents[3] / "plugins" / "glowplug-model-checkpoint" / "README.md"
    script = re.search(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)[1]
    for expected in ("from the start", "resumed from checkpoint_15.pt"):
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert expected in result.stdout


@pytest.mark.skipif(os.environ.get("GLOWPLUG_ISOLATED") != "1", reason="set in the plugin's own environment")
def test_nothing_else_is_installed():
    """The plugin runs with the core and torch alone: no other plugin, none of their libraries."""
    names = {dist.metadata["Name"].lower().replace("_", "-") for dist in importlib.metadata.distributions()}
    plugins = {name for name in names if name.startswith("glowplug-")}
    assert plugins == {"glowplug-model-checkpoint"}
    assert not names & {
        "mlflow",
        "mlflow-skinny",
        "tensorboard",
        "tqdm",
        "scikit-learn",
        "torchmetrics",
    }
