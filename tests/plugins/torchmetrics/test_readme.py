"""README of glowplug-torchmetrics."""

import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[3] / "plugins" / "glowplug-torchmetrics" / "README.md"


def test_readme_runs():
    """The script of the README prints the output shown there."""
    script, output = (
        part.split("```")[0] for part in README.read_text().split("```python\n", 1)[1].split("```text\n")
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == output
