"""Tests of the README and of lazy imports."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[3] / "plugins" / "glowplug-tensorboard" / "README.md"


def test_readme_script_runs(tmp_path):
    """The script of the README runs unchanged with warnings as errors and creates an event file."""
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
    assert len(list(tmp_path.glob("logs/digits/events.out.tfevents.*"))) == 1


def test_imports_are_lazy():
    """Discovery and construction do not import torch, tensorboard or numpy."""
    script = (
        "import sys, glowplug_tensorboard._plugin; from glowplug_tensorboard import TensorboardLogger;"
        "TensorboardLogger('never');"
        "print({'torch', 'tensorboard', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
