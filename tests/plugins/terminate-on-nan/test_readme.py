"""The script in the README."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-terminate-on-nan"


def test_output(capsys):
    """The script in the README prints the output shown below it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script, printed = (
        re.search(rf"```{kind}\n(.*?)```", readme, re.DOTALL).group(1) for kind in ("python", "text")
    )
    exec(compile(script, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed
