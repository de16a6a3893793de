"""Scripts in new Python processes: those of the plugins' READMEs, and those that show what an import imports."""

import re
import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).parents[2] / "plugins"


def run_readme_script(plugin, folder, warnings="error"):
    """Run the first script of a plugin's README in a folder, and return what it prints."""
    readme = (PLUGINS / plugin / "README.md").read_text(encoding="utf-8")
    script = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_by(script, modules):
    """Return, as text, the set of those modules that have been imported after a script."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {script}; print({set(modules)} & set(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()
