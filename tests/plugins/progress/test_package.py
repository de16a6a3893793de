"""The distribution around ProgressBar: what it offers, its examples, and what it needs."""

import doctest
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import glowplug_progress
from glowplug.hookspecs import HandlerSpec
from glowplug_progress import _plugin

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-progress"


@pytest.mark.parametrize("module", ["bar", "counting", "postfix", "progress_bar"])
def test_examples_in_docstrings_run(module):
    """Each >>> example gives what it shows."""
    results = doctest.testmod(importlib.import_module(f"glowplug_progress.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_the_script_of_the_readme_leaves_what_it_says(screen, monkeypatch):
    """The README's script runs as it stands, and leaves on a terminal what stands below it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script, printed = (
        re.search(rf"```{kind}\n(.*?)```", readme, re.DOTALL).group(1) for kind in ("python", "text")
    )
    monkeypatch.setattr(sys, "stdout", screen)
    exec(compile(script, "README.md", "exec"), {})
    assert [row.rstrip() for row in screen.rows] == printed.split("\n")


def test_the_plugin_offers_its_names():
    """The hook names each public name, and each target is there."""
    specs = _plugin.glowplug_handlers()
    assert all(isinstance(spec, HandlerSpec) for spec in specs)
    assert sorted(spec.name for spec in specs) == sorted(glowplug_progress.__all__)
    for spec in specs:
        module, _, name = spec.target.partition(":")
        assert getattr(importlib.import_module(module), name) is getattr(glowplug_progress, name)


def test_only_public_names_exist():
    """A name that the package does not have is an AttributeError, as everywhere."""
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        glowplug_progress.Nothing  # noqa: B018 - the access is the test
    assert set(glowplug_progress.__all__) <= set(dir(glowplug_progress))


def test_import_of_the_plugin_is_light():
    """Discovery imports neither the handler's module nor a library."""
    script = (
        "import sys, glowplug_progress._plugin;"
        "print({'glowplug_progress.progress_bar', 'torch', 'tqdm'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(
    "GLOWPLUG_ISOLATED" not in os.environ, reason="only in an environment of this plugin alone"
)
def test_nothing_else_is_installed():
    """The plugin works without any other plugin, and without their libraries."""
    others = {"early_stopping", "metrics", "mlflow", "model_checkpoint", "tensorboard", "terminate_on_nan"}
    names = [*(f"glowplug_{other}" for other in others), "mlflow", "tensorboard", "tensorboardX"]
    assert [name for name in names if importlib.util.find_spec(name)] == []
