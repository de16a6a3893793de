"""Tests of the README."""

import re
import subprocess
import sys
from pathlib import Path


def test_readme_script_runs(tmp_path):
    """The script of the README runs unchanged; the second time it resumes."""
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
