"""Tests of the README and of lazy imports."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[3] / "plugins" / "glowplug-jsonl" / "README.md"


def test_readme_script_runs(tmp_path):
    """The script of the README runs unchanged with warnings as errors and writes both files."""
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
    assert [path.name for path in sorted(tmp_path.glob("logs/*"))] == ["run.csv", "run.jsonl"]


def test_imports_are_lazy():
    """Discovery and construction import neither torch nor numpy."""
    script = (
        "import sys, glowplug_jsonl._plugin; from glowplug_jsonl import CsvLogger, JsonLinesLogger;"
        "JsonLinesLogger('never'); CsvLogger('never');"
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
