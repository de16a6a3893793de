"""The changelog fragments and the changelog that towncrier makes of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "changelog.d"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
SECTIONS = {section["path"]: section["name"] for section in SETTINGS["section"]}
TYPES = {kind["directory"]: kind["name"] for kind in SETTINGS["type"]}


def fragments(folder):
    """Return the files below the folder of fragments, except those that towncrier ignores."""
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name not in SETTINGS["ignore"]
    )


def misplaced(folder):
    """Return the files that towncrier would leave out of the changelog or refuse, and those without text."""
    return [
        path.relative_to(folder).as_posix()
        for path in fragments(folder)
        if path.parent.relative_to(folder).as_posix() not in SECTIONS
        or len(path.name.split(".")) != 3  # <topic>.<type>.md
        or path.name.split(".")[1:] not in [[kind, "md"] for kind in TYPES]
        or not path.read_text(encoding="utf-8").strip()
    ]


def sections_of(changelog):
    """Map section, type and text of each change to its number of occurrences."""
    found, section, kind, entry = {}, "", "", ""
    for line in [*changelog.splitlines(), ""]:
        if entry and not line.startswith("  "):
            found[section, kind, entry] = found.get((section, kind, entry), 0) + 1
            entry = ""
        if line.startswith("### "):
            section = line.removeprefix("### ")
        elif line.startswith("#### "):
            kind = line.removeprefix("#### ")
        elif line.startswith("- "):
            entry = line.removeprefix("- ")
        elif entry:
            entry += f" {line.strip()}"
    return found


def test_each_distribution_has_a_section():
    """There is one section for each distribution, and one for changes of several distributions."""
    plugins = {path.name for path in (ROOT / "plugins").glob("glowplug-*")}
    assert {"all": "All distributions", **{name: name for name in ("glowplug", *plugins)}} == SECTIONS


def test_fragments_are_in_their_places():
    """Each fragment is in the folder of a section, and its name ends with a known type."""
    assert misplaced(FOLDER) == []


@pytest.mark.parametrize(
    "name",
    [
        "+topic.added.md",
        "glowplug-unknown/+topic.added.md",
        "glowplug-mlflow/deeper/+topic.added.md",
        "glowplug-mlflow/+topic.feature.md",
        "glowplug-mlflow/+topic.added.txt",
        "glowplug-mlflow/added.md",
    ],
)
def test_a_misplaced_fragment_is_found(tmp_path, name):
    """A fragment outside the folders of the sections, with an unknown type or with another ending is found."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("`MLflowLogger` does something new.\n", encoding="utf-8")
    assert misplaced(tmp_path) == [name]


def test_files_in_fragments_exist():
    """The files that the fragments name exist, so a fragment follows when a page moves."""
    named = re.compile(r"`((?:docs|tests|core|plugins)/[a-z][\w./-]*)`")
    missing = [
        (path.relative_to(FOLDER).as_posix(), name)
        for path in fragments(FOLDER)
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert missing == []


def test_the_draft_contains_each_fragment():
    """The draft of the changelog shows the text of each fragment once, under its distribution and type, and nothing else."""
    draft = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    assert draft.startswith("## 9.9.9 (")
    expected = {}
    for path in fragments(FOLDER):
        kind = TYPES[path.name.split(".")[1]]
        text = " ".join(path.read_text(encoding="utf-8").split())
        expected[SECTIONS[path.parent.name], kind, text] = 1
    assert sections_of(draft) == expected
