"""Tests of the README and of lazy imports."""

from new_process import imported_by, run_readme_script


def test_readme_script_runs(runs, tmp_path):
    """The script of the README runs unchanged with warnings as errors and writes an offline run."""
    run_readme_script("glowplug-wandb", tmp_path)
    (records,) = runs.read()
    assert [row["training/loss"] for row in runs.rows(records)] == [1.0, 0.5, 0.25] * 2


def test_imports_are_lazy():
    """Discovery and construction import neither W&B nor torch nor numpy."""
    script = "import glowplug_wandb._plugin; from glowplug_wandb import WandbLogger; WandbLogger('never')"
    assert imported_by(script, ["torch", "wandb", "numpy"]) == "set()"
