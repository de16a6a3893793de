"""The scripts in the README."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-ema"


def test_scripts(capsys, tmp_path, monkeypatch):
    """The scripts in the README run one after another, and the first prints the output shown below it."""
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    scripts, outputs = (re.findall(rf"```{kind}\n(.*?)```", readme, re.DOTALL) for kind in ("python", "text"))
    names = {}
    exec(compile(scripts[0], "README.md", "exec"), names)
    assert capsys.readouterr().out == outputs[0]
    exec(compile(scripts[1], "README.md", "exec"), names)
    assert names["swa"].num_averaged == 5
    assert (tmp_path / "averaged.pt").exists()
