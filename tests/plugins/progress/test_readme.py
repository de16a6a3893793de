"""The scripts in the README."""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest
from rich import reconfigure

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-progress"
BLOCK = re.compile(r"```python\n(.*?)```.*?```text\n(.*?)```", re.DOTALL)
SCRIPTS = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_output(screen, monkeypatch):
    """The first script leaves the lines shown below it on a terminal."""
    script, printed = SCRIPTS[0]
    monkeypatch.setattr(sys, "stdout", screen)
    exec(compile(script, "README.md", "exec"), {})
    assert [row.rstrip() for row in screen.rows] == printed.split("\n")


@pytest.fixture
def global_console():
    """Change the global console of rich for one test: ``global_console(**options)``."""
    yield reconfigure
    reconfigure()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_lines(screen, global_console, is_terminal):
    """The second script leaves the lines shown below it, in a file and on a terminal, but for the durations."""
    script, printed = SCRIPTS[1]
    file = io.StringIO()
    with contextlib.redirect_stdout(screen if is_terminal else file):
        global_console(force_terminal=is_terminal, width=120, legacy_windows=False)
        exec(compile(script, "README.md", "exec"), {})
    shown = (
        "\n".join(row.rstrip() for row in screen.rows[: screen.row + 1]) if is_terminal else file.getvalue()
    )
    assert ("3/3" in screen.written) is is_terminal
    assert re.sub(r"[\d.]+ s$", "", shown, flags=re.MULTILINE) == printed.replace("0.1 s", "")
