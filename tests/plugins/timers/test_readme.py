"""The scripts in the README."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-timers"


def test_scripts(capsys, tmp_path, monkeypatch):
    """The scripts in the README run, and the first one prints a table such as the one below it."""
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    scripts, (shown,) = (
        re.findall(rf"```{kind}\n(.*?)```", readme, re.DOTALL) for kind in ("python", "text")
    )
    names, printed = {}, []
    for script in scripts:
        exec(compile(script, "README.md", "exec"), names)
        printed.append(capsys.readouterr().out)

    def without_numbers(table):
        return re.sub(r"[\d./]+ *| +", " ", table)

    assert without_numbers(printed[0]) == without_numbers(shown)
    assert len(list((tmp_path / "traces").glob("*.pt.trace.json"))) == 2
