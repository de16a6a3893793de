"""The example of the README."""

import re
from pathlib import Path

from new_process import run_readme_script

README = Path(__file__).parents[3] / "plugins" / "glowplug-monitors" / "README.md"


def test_output(tmp_path):
    """The script prints what the README shows."""
    shown = re.search(r"```text\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    assert run_readme_script("glowplug-monitors", tmp_path) == shown
