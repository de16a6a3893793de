"""The snippets in the README."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-schedulers"


def test_snippets(capsys):
    """The first script in the README prints the output shown below it, and the other snippets run after it."""
    pytest.importorskip("matplotlib").use("Agg")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(compile(first, "README.md", "exec"), names)
    assert capsys.readouterr().out == re.search(r"```text\n(.*?)```", readme, re.DOTALL).group(1)
    for snippet in others:
        exec(compile(snippet, "README.md", "exec"), names)
    assert len(others) == 3
