"""The snippets of the pages about plugins, run in order."""

import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from glowplug import hookspecs, testing
from glowplug.hookspecs import API_VERSION, OfferKind
from glowplug.loggers import Writer
from glowplug.plugins import HOOKS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "how-to" / "writing-plugins.md"
TUTORIAL = DOCS / "tutorial" / "first-plugin.md"
FENCE = re.compile(r"(?P<before>[^\n]*)\n+```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


class Snippet(NamedTuple):
    """A code block of the page: a file if it has a name, otherwise code to run."""

    line: int
    language: str
    text: str
    file: str
    is_first: bool
    """Whether the snippet is the first of its section."""

    def __str__(self):
        return f"line {self.line}, {self.file or self.language}"


def snippets(path):
    """Return the snippets of a page in order; the line above a snippet may name its file or exclude the snippet."""
    page = path.read_text(encoding="utf-8")
    found, section = [], None
    for match in FENCE.finditer(page):
        before = match["before"].strip()
        if before.startswith("<!-- not run"):
            continue
        heading = page.rfind("\n## ", 0, match.start())
        name = re.fullmatch(r"`([\w./]+)`:", before)
        line = page.count("\n", 0, match.start("text"))
        found.append(
            Snippet(line, match["language"], match["text"], name[1] if name else "", heading != section)
        )
        section = heading
    return found


def commands(text):
    """Return the commands of a console block with the output shown below each."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def pattern_of(shown):
    """Return a pattern for the shown output, in which ``...`` matches any text."""
    lines = [r"(?:.*\n)*?" if line == "..." else f"{wild(line)} *\n" for line in shown.splitlines()]
    return re.compile("".join(lines) + r"\s*")


def wild(line):
    """Return a pattern for a line: ``...`` matches any text, and a space any number of spaces."""
    return re.sub(r"(\\ )+", " +", r".*".join(map(re.escape, line.rstrip().split("..."))))


class Reader:
    """A reader who follows the page in a new environment, without a network."""

    def __init__(self, home, python, *, returns):
        self._home = self._folder = home
        self._returns = returns  # to the first folder at the beginning of each section
        for module in ("pip", "glowplug"):  # the environment can import these, but lacks their commands
            script = python.parent / module
            script.write_text(
                f"#!{python}\nimport runpy\nrunpy.run_module({module!r}, run_name='__main__')\n"
            )
            script.chmod(0o755)
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith("GLOWPLUG_")
        }
        self._environment |= {
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip treats 0 as the option --no-build-isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def follow(self, snippet):
        """Write the file of a snippet, or run its code or its commands."""
        if snippet.is_first and self._returns:
            self._folder = self._home
        if snippet.file:
            (self._folder / snippet.file).write_text(snippet.text, encoding="utf-8")
        elif snippet.language == "python":
            self._run(["python", "-W", "error", "-c", snippet.text])
        else:
            for command, shown in commands(snippet.text):
                if command.startswith("cd "):
                    self._folder /= command.removeprefix("cd ")
                    continue
                printed = self._run(["bash", "-o", "pipefail", "-c", command])
                assert not shown.strip() or pattern_of(shown).fullmatch(printed), f"$ {command}\n{printed}"

    def _run(self, command):
        ended = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, f"{command[-1]}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout


@pytest.mark.skipif(find_spec("copier") is None, reason="needs copier")
@pytest.mark.parametrize("page", [PAGE, TUTORIAL], ids=lambda page: page.stem)
def test_every_snippet(page, tmp_path, new_python):
    """The files, scripts and commands of the page work in order, and print the shown output."""
    reader = Reader(tmp_path, new_python, returns=page is PAGE)
    for snippet in snippets(page):
        try:
            reader.follow(snippet)
        except AssertionError as error:
            pytest.fail(f"{page.name}, {snippet}: {error}", pytrace=False)


def test_what_is_not_run():
    """All snippets are run, except the one that uploads."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- not run") == 1
    assert page.count("\n```") == 2 * (len(snippets(PAGE)) + 1)
    assert {snippet.language for snippet in snippets(PAGE) if not snippet.file} == {"python", "console"}


def test_tables_are_complete():
    """The page names all hooks, write methods, kinds of offers and test tools, and the hook version."""
    page = PAGE.read_text(encoding="utf-8")
    names = (
        {f"`{hook}(" for hook in HOOKS}
        | {f"`{method}(" for method in vars(Writer) if method.startswith("write_")}
        | {f'`"{kind}"`' for kind in get_args(OfferKind)}
    )
    names |= {f"{name}" for name in testing.__all__ if name not in {"CheckFailed", "EngineContract"}}
    names |= {f"`{name}(" for name in hookspecs.__all__ if name in {"Finding", "Offer"}}
    names |= {f"`GLOWPLUG_API = {API_VERSION}`"}
    assert sorted(name for name in names if name not in page) == []
