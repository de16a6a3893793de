"""The scripts in the README."""

import re
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-lr-finder"


def test_scripts(capsys, tmp_path, monkeypatch):
    """The first script in the README prints the output shown below it, and the second saves a picture of the curve."""
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    scripts, outputs = (re.findall(rf"```{kind}\n(.*?)```", readme, re.DOTALL) for kind in ("python", "text"))
    names = {}
    exec(compile(scripts[0], "README.md", "exec"), names)
    assert capsys.readouterr().out == outputs[0]
    if find_spec("matplotlib") is not None:
        exec(compile(scripts[1], "README.md", "exec"), names)
        assert (tmp_path / "learning-rate.png").stat().st_size > 1000
