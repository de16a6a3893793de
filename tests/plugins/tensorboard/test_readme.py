"""The script of the README runs as it stands, and the library waits for the first record."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[3] / "plugins" / "glowplug-tensorboard" / "README.md"


def test_the_script_of_the_readme_runs(tmp_path):
    """The README's script runs as it stands, with warnings as errors, and leaves an event file behind."""
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


def test_neither_discovery_nor_construction_imports_a_heavy_library():
    """Libraries wait for the first record."""
    script = (
        "import sys, glowplug_tensorboard._plugin; from glowplug_tensorboard import TensorboardLogger;"
        "TensorboardLogger('never');"
        "print({'torch', 'tensorboard', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
