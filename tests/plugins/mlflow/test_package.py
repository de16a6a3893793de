"""The distribution itself: what it offers, what it imports, and that its examples run."""

import doctest
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

import glowplug_mlflow
from glowplug_mlflow import _plugin

README = Path(__file__).parents[3] / "plugins" / "glowplug-mlflow" / "README.md"


@pytest.mark.parametrize("module", ["failures", "keys", "logger", "requests"])
def test_examples_in_docstrings_run(module):
    """Each >>> example gives what it shows."""
    results = doctest.testmod(importlib.import_module(f"glowplug_mlflow.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_the_script_of_the_readme_runs(tmp_path):
    """The README's script runs as it stands and leaves a finished run behind."""
    script = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "training/loss")) == 30


def test_the_plugin_offers_its_names():
    """The hook names each public name, each target is there, and the entry point leads to the hook."""
    specs = _plugin.glowplug_handlers()
    assert [spec.name for spec in specs] == glowplug_mlflow.__all__
    for spec in specs:
        module, _, name = spec.target.partition(":")
        assert getattr(importlib.import_module(module), name) is getattr(glowplug_mlflow, name)
    entry_points = importlib.metadata.entry_points(group="glowplug", name="mlflow")
    assert [entry.load() for entry in entry_points] == [_plugin]


def test_only_public_names_exist():
    """A name that the package does not have is an AttributeError, as everywhere."""
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        glowplug_mlflow.Nothing  # noqa: B018 - the access is the test
    assert set(glowplug_mlflow.__all__) <= set(dir(glowplug_mlflow))


def test_neither_discovery_nor_construction_imports_a_heavy_library():
    """Libraries wait for the first record."""
    script = (
        "import sys, glowplug_mlflow._plugin; from glowplug_mlflow import MLflowLogger;"
        "MLflowLogger();"
        "print({'torch', 'mlflow', 'requests', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(os.environ.get("GLOWPLUG_ISOLATED") != "1", reason="set in the plugin's own environment")
def test_nothing_else_is_installed():
    """The plugin runs with the core and mlflow alone: no other plugin, none of their libraries."""
    names = {dist.metadata["Name"].lower().replace("_", "-") for dist in importlib.metadata.distributions()}
    assert {name for name in names if name.startswith("glowplug-")} == {"glowplug-mlflow"}
    assert not names & {"tensorboard", "tensorboardx", "torchmetrics"}
