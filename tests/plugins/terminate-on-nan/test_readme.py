"""The script of the README runs as it stands."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3] / "plugins" / "glowplug-terminate-on-nan"


def test_the_script_of_the_readme_prints_what_it_says(capsys):
    """The README's script runs as it stands."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script, printed = (
        re.search(rf"```{kind}\n(.*?)```", readme, re.DOTALL).group(1) for kind in ("python", "text")
    )
    exec(compile(script, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed
