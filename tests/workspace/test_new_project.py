"""Projects created by `glowplug new`."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from glowplug import __version__
from glowplug.cli._new import KINDS

if find_spec("copier") is None:
    pytest.skip("needs copier", allow_module_level=True)

ROOT = Path(__file__).parents[2]
NAMES = {
    "logger": ("acme-glowplug-csv", "AcmeCsvLogger"),
    "handler": ("acme-best-value", "AcmeBestValue"),
    "metric": ("acme-glowplug-mean-absolute-error-of-the-outputs", "AcmeMeanAbsoluteErrorOfTheOutputs"),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def run(*command, folder, check=True, **settings):
    """Run a command in a folder and return its output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GLOWPLUG_")}
    ended = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not check or ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """Create a folder with a project of each kind."""
    folder = tmp_path_factory.mktemp("projects")
    for kind, (name, _) in NAMES.items():
        printed = run(
            sys.executable,
            "-m",
            "glowplug",
            "new",
            kind,
            name,
            "--author",
            'Ada "A." Lovelace',
            folder=folder,
        )
        assert [line.strip() for line in printed.splitlines() if line.startswith("    ")] == [
            f"cd {name}",
            'python -m pip install -e ".[test]"',
            "python -m pytest",
        ]
    return folder


@pytest.fixture(scope="module")
def python(projects, new_python):
    """Return the interpreter of a new environment with the wheels of the three projects."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    sources = [projects / name for name, _ in NAMES.values()]
    run(
        *pip,
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "wheels",
        *sources,
        folder=projects,
    )
    wheels = sorted((projects / "wheels").iterdir())
    assert [wheel.suffix for wheel in wheels] == [".whl"] * 3
    run(
        *pip,
        "--python",
        new_python,
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        *wheels,
        folder=projects,
    )
    return new_python


@each_kind
def test_its_own_tests_pass(projects, python, kind):
    """The tests of a new project pass against its wheel."""
    name, class_name = NAMES[kind]
    printed = run(python, "-m", "pytest", "-p", "no:cacheprovider", "-rA", folder=projects / name)
    assert re.search(rf"PASSED tests/test_{kind}.py::Test{class_name}::test_", printed)
    assert not re.search(r"\d+ (failed|error|xfailed)", printed.splitlines()[-1])


@each_kind
def test_the_script_of_its_readme_runs(projects, python, tmp_path, kind):
    """The script in the README of a new project runs with warnings as errors."""
    script = re.search(
        r"```python\n(.*?)```", (projects / NAMES[kind][0] / "README.md").read_text(), re.DOTALL
    )[1]
    assert re.search(rf"from glowplug.(handlers|metrics) import {NAMES[kind][1]}\n", script)
    run(python, "-W", "error", "-c", script, folder=tmp_path)


def test_it_is_listed(projects, python):
    """`glowplug plugins list` shows the three plugins and their offers without a fault."""
    listed = json.loads(run(python, "-m", "glowplug", "plugins", "list", "--json", folder=projects))
    acme = {each["name"]: each for each in listed if each["name"].startswith("acme-")}
    assert {name: each["status"] for name, each in acme.items()} == {name: "ok" for name, _ in NAMES.values()}
    for kind, (name, class_name) in NAMES.items():
        assert [(offer["kind"], offer["name"]) for offer in acme[name]["offers"]] == [(kind, class_name)]
        assert acme[name]["findings"] == []
        assert acme[name]["version"] == "0.1.0"


@each_kind
def test_check_is_content(projects, python, kind):
    """`glowplug plugins check` finds no fault and exits with 0."""
    assert NAMES[kind][1] in run(
        python, "-m", "glowplug", "plugins", "check", NAMES[kind][0], folder=projects
    )


@each_kind
def test_metadata(projects, python, kind):
    """The wheel requires compatible versions of glowplug, is typed, and contains the licence with the author."""
    name = NAMES[kind][0]
    script = (
        "import importlib.metadata as m, json, sys; d = m.distribution(sys.argv[1]);"
        "print(json.dumps([d.metadata.get_all('Requires-Dist'), d.metadata['Author'], [str(f) for f in d.files],"
        "d.read_text('licenses/LICENSE')]))"
    )
    requires, author, files, licence = json.loads(run(python, "-c", script, name, folder=projects))
    major, minor = __version__.split(".")[:2]
    assert f"glowplug<2,>={major}.{minor}" in requires
    assert any(each.startswith(f"glowplug-testing<2,>={major}.{minor};") for each in requires)
    assert f"{name.replace('-', '_')}/py.typed" in files
    assert author == 'Ada "A." Lovelace'
    assert 'Ada "A." Lovelace' in licence


@each_kind
def test_project_is_clean_for_the_linters(projects, kind):
    """A new project passes ruff with its own rules and mypy --strict."""
    for module in ("ruff", "mypy"):
        pytest.importorskip(module)
    folder = projects / NAMES[kind][0]
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", folder=folder)
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".", folder=folder)
    core = Path(find_spec("glowplug").origin).parents[1]
    # With the same options, mypy finds the types of torch in the cache of the workspace.
    assert "[tool.mypy]\nstrict = true\n" in (folder / "pyproject.toml").read_text()
    options = ("--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache")
    run(sys.executable, "-m", "mypy", *options, "src", folder=folder, MYPYPATH=str(core))


def test_every_file_is_rendered(projects):
    """A new project contains no template syntax, except ``${{`` in its workflow."""
    for path in projects.glob("acme-*/**/*"):
        assert not re.search(r"[{}]|\.jinja$", str(path.relative_to(projects)))
        if path.is_file() and path.name != "ci.yml" and path.suffix != ".pyc":
            assert not re.search(r"\{\{ |\{%", path.read_text())


def test_templates_are_in_wheel_and_sdist(tmp_path):
    """Both builds of the core contain every template file, including hidden folders."""
    core = ROOT / "core"
    run(sys.executable, "-m", "hatchling", "build", "-d", tmp_path, folder=core)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    templates = [path for path in (core / "src/glowplug/cli/templates").rglob("*") if path.is_file()]
    assert {".gitignore.jinja", "ci.yml.jinja", "py.typed"} <= {path.name for path in templates}
    with zipfile.ZipFile(wheel) as archive:
        assert {path.relative_to(core / "src").as_posix() for path in templates} <= set(archive.namelist())
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {path.relative_to(core).as_posix() for path in templates} <= names
