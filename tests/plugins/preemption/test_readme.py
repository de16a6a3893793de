"""The script in the README."""

import re
from pathlib import Path

import pytest
from new_process import run_readme_script

README = Path(__file__).parents[3] / "plugins" / "glowplug-preemption" / "README.md"


def test_output(tmp_path):
    """The script in the README prints the output shown below it."""
    pytest.importorskip("glowplug_model_checkpoint")
    printed = re.search(r"```text\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert run_readme_script("glowplug-preemption", tmp_path) == printed
