"""The script of the README runs as it stands."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-progress"


def test_the_script_of_the_readme_leaves_what_it_says(screen, monkeypatch):
    """The README's script runs as it stands, and leaves on a terminal what stands below it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script, printed = (
        re.search(rf"```{kind}\n(.*?)```", readme, re.DOTALL).group(1) for kind in ("python", "text")
    )
    monkeypatch.setattr(sys, "stdout", screen)
    exec(compile(script, "README.md", "exec"), {})
    assert [row.rstrip() for row in screen.rows] == printed.split("\n")
