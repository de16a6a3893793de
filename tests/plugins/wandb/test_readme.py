"""Tests of the README and of lazy imports."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[3] / "plugins" / "glowplug-wandb" / "README.md"


def test_readme_script_runs(runs, tmp_path):
    """The script of the README runs unchanged with warnings as errors and writes an offline run."""
    script = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (records,) = runs.read()
    assert [row["training/loss"] for row in runs.rows(records)] == [1.0, 0.5, 0.25] * 2


def test_imports_are_lazy():
    """Discovery and construction import neither W&B nor torch nor numpy."""
    script = (
        "import sys, glowplug_wandb._plugin; from glowplug_wandb import WandbLogger;"
        "WandbLogger('never');"
        "print({'torch', 'wandb', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
