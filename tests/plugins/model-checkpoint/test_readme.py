"""Tests of the README."""

from new_process import run_readme_script


def test_readme_script_runs(tmp_path):
    """The script of the README runs unchanged; the second time it resumes."""
    for expected in ("from the start", "resumed from checkpoint_15.pt"):
        assert expected in run_readme_script("glowplug-model-checkpoint", tmp_path)
