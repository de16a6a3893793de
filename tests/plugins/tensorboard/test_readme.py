"""Tests of the README and of lazy imports."""

from new_process import imported_by, run_readme_script


def test_readme_script_runs(tmp_path):
    """The script of the README runs unchanged with warnings as errors and creates an event file."""
    run_readme_script("glowplug-tensorboard", tmp_path)
    assert len(list(tmp_path.glob("logs/digits/events.out.tfevents.*"))) == 1


def test_imports_are_lazy():
    """Discovery and construction do not import torch, tensorboard or numpy."""
    script = (
        "import glowplug_tensorboard._plugin; from glowplug_tensorboard import TensorboardLogger;"
        "TensorboardLogger('never')"
    )
    assert imported_by(script, ["torch", "tensorboard", "numpy"]) == "set()"
