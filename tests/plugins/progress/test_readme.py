"""The script in the README."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-progress"


def test_output(screen, monkeypatch):
    """The script in the README leaves the lines shown below it on a terminal."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script, printed = (
        re.search(rf"```{kind}\n(.*?)```", readme, re.DOTALL).group(1) for kind in ("python", "text")
    )
    monkeypatch.setattr(sys, "stdout", screen)
    exec(compile(script, "README.md", "exec"), {})
    assert [row.rstrip() for row in screen.rows] == printed.split("\n")
