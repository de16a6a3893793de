"""The versions and metadata of all distributions, and the script that changes the versions for a release."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

import glowplug

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "core", *sorted((ROOT / "plugins").glob("glowplug-*"))]
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
REPOSITORY = "https://github.com/glowplug/glowplug"


def project_of(folder):
    """Return the metadata in the pyproject.toml of a distribution."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def stated_version(folder):
    """Return the version in the only _version.py of a distribution."""
    (path,) = folder.rglob("_version.py")
    return re.search(r'^__version__ = "(.+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)[1]


def core_requirements(folder):
    """Return the requirements of a distribution on the core."""
    return [text for text in project_of(folder)["dependencies"] if re.match(r"glowplug\b(?!-)", text)]


@each_folder
def test_one_version(folder):
    """A distribution states its version once, in _version.py, and it is the version of the core."""
    project = project_of(folder)
    assert "version" not in project
    assert "version" in project["dynamic"]
    assert stated_version(folder) == glowplug.__version__
    assert importlib.import_module(project["name"].replace("-", "_")).__version__ == glowplug.__version__


@each_folder
def test_plugins_require_a_core_of_their_version(folder):
    """A plugin requires a core that is as new as the plugin and has the same public names; the core requires no plugin."""
    expected = [] if folder.name == "core" else [f"glowplug>={glowplug.__version__},<2"]
    assert core_requirements(folder) == expected


def test_lowest_torch():
    """The distributions that require torch have the same lower bound, which is the one in compatibility.md."""
    requirements = [text for folder in FOLDERS for text in project_of(folder)["dependencies"]]
    (lowest,) = {text.removeprefix("torch>=") for text in requirements if text.startswith("torch>=")}
    page = (ROOT / "docs" / "explanation" / "compatibility.md").read_text(encoding="utf-8")
    assert f"\n| torch | {lowest} and later." in page


@each_folder
def test_urls(folder):
    """Each distribution links to its page, documentation, source, changelog and issues."""
    assert project_of(folder)["urls"] == {
        "Homepage": REPOSITORY,
        "Documentation": "https://glowplug.readthedocs.io",
        "Source": f"{REPOSITORY}/tree/main/{folder.relative_to(ROOT).as_posix()}",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    }


@each_folder
def test_relative_links(folder):
    """If a README links to other files of the repository, its build turns them into addresses that a package index can follow."""
    has_links = "](../" in (folder / "README.md").read_text(encoding="utf-8")
    assert ("readme" in project_of(folder)["dynamic"]) >= has_links


@pytest.fixture
def workspace(tmp_path):
    """A copy of the files that a release changes, with one fragment in the changelog."""
    for name in ("core", "plugins", ".ci"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("pyproject.toml", "CHANGELOG.md", "changelog.d/template.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    fragment = tmp_path / "changelog.d" / "glowplug-mlflow" / "+tags.added.md"
    fragment.parent.mkdir()
    fragment.write_text("`MLflowLogger` logs tags.\n", encoding="utf-8")
    return tmp_path


def release(workspace, version):
    """Run the script in a copy of the workspace."""
    return subprocess.run(
        [sys.executable, ".ci/release.py", version],
        cwd=workspace, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "core"),
    [("1.4.2", "glowplug>=1.4.2,<2"), ("1.5.0rc1", "glowplug>=1.5.0rc1,<2"), ("2.0.0", "glowplug>=2.0.0,<3")],
)
def test_release(workspace, version, core):
    """The script states the version in all distributions, requires it of the core, and moves the fragment to the changelog."""
    before = {path.relative_to(workspace) for path in workspace.rglob("*") if path.is_file()}
    ended = release(workspace, version)
    assert ended.returncode == 0, ended.stderr
    folders = [workspace / folder.relative_to(ROOT) for folder in FOLDERS]
    assert {stated_version(folder) for folder in folders} == {version}
    assert [core_requirements(folder) for folder in folders] == [[], *[[core]] * (len(folders) - 1)]
    changelog = (workspace / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(
        rf"## {version} \(.+\)\n\n### glowplug-mlflow\n\n#### Added\n\n- `MLflowLogger` logs tags\.\n",
        changelog,
    )
    after = {path.relative_to(workspace) for path in workspace.rglob("*") if path.is_file()}
    after = {path for path in after if "__pycache__" not in path.parts}
    assert before - after == {Path("changelog.d/glowplug-mlflow/+tags.added.md")}
    assert after <= before


@pytest.mark.parametrize("version", ["0.0.9", "v1.0", "1.0.0-rc1", "next"])
def test_refused_version(workspace, version):
    """A version that is older, misspelt or no version is refused, and no file changes."""
    ended = release(workspace, version)
    assert ended.returncode == 1
    assert f"got {version!r}" in ended.stderr
    assert {stated_version(workspace / folder.relative_to(ROOT)) for folder in FOLDERS} == {
        glowplug.__version__
    }


@pytest.mark.parametrize("script", ["release.py", "rehearse_release.py"])
def test_missing_version(script):
    """Without a version, the scripts of a release say how to call them."""
    ended = subprocess.run(
        [sys.executable, ROOT / ".ci" / script],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 2
    assert f"usage: {script} [-h] version" in ended.stderr
    assert "the following arguments are required: version" in ended.stderr
