"""The distribution as a whole: what it brings along, and its examples."""

import doctest
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import glowplug_metrics
from glowplug_metrics import _plugin

MODULES = ["accumulation", "accumulator", "accuracy", "classification", "loss", "running_average"]
README = Path(__file__).parents[3] / "plugins" / "glowplug-metrics" / "README.md"


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    """Each module has examples, and they show what they say."""
    failed, attempted = doctest.testmod(importlib.import_module(f"glowplug_metrics.{name}"))
    assert attempted
    assert not failed


def test_readme_runs():
    """The script of the README runs as it is printed, and prints what it says."""
    script, output = (
        part.split("```")[0] for part in README.read_text().split("```python\n", 1)[1].split("```text\n")
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == output


def test_names_are_those_of_the_plugin():
    """Each name that the plugin offers can be imported from the package, and from its target."""
    specs = _plugin.glowplug_metrics()
    assert [spec.name for spec in specs] == glowplug_metrics.__all__
    for spec in specs:
        module, _, name = spec.target.partition(":")
        assert getattr(importlib.import_module(module), name) is getattr(glowplug_metrics, spec.name)


def test_discovery_leaves_torch_alone():
    """An import of the plugin's module, as discovery does it, brings no torch."""
    script = "import sys, glowplug_metrics._plugin; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"


@pytest.mark.skipif(os.environ.get("GLOWPLUG_ISOLATED") != "1", reason="needs the environment that tox makes")
def test_isolated_environment_has_no_other_plugin():
    """This distribution asks for none of the others, nor for what they bring."""
    others = [
        "glowplug_terminate_on_nan",
        "glowplug_model_checkpoint",
        "glowplug_early_stopping",
        "glowplug_tensorboard",
        "glowplug_mlflow",
        "glowplug_progress",
        "tensorboard",
        "mlflow",
        "tqdm",
        "sklearn",
    ]
    assert [name for name in others if importlib.util.find_spec(name)] == []
