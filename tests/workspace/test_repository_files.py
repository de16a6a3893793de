"""The files that GitHub, pre-commit and citation tools read."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for pattern in (".github/**/*.yml", ".pre-commit-config.yaml", "CITATION.cff", ".readthedocs.yaml")
    for path in ROOT.glob(pattern)
)
WORKFLOWS = [path for path in FILES if path.parent.name == "workflows"]
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path):
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands_of(workflow):
    """Return the shell commands of a workflow."""
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_can_be_parsed(path):
    """Each file is YAML with a mapping at the top."""
    assert isinstance(load(path), dict)


@each_workflow
def test_workflows_read_only(path):
    """A workflow can read the repository and nothing else; only the job that publishes gets an identity."""
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    granted = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert granted == ({"publish": {"id-token": "write"}} if path.name == "release.yml" else {})


@each_workflow
def test_environments_exist(path):
    """The tox environments that a workflow names exist."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    named = re.findall(r"tox run -e ([\w-]+)(?=\s|$)", "\n".join(commands_of(load(path))))
    assert {f"testenv:{name}" for name in named} <= set(tox.sections())


def test_pythons():
    """The workflow tests every Python version that the metadata of the core name."""
    jobs = load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    metadata = (ROOT / "core" / "pyproject.toml").read_text(encoding="utf-8")
    assert jobs["core-without-torch"]["strategy"]["matrix"]["python"] == re.findall(
        r"Python :: (3\.\d+)", metadata
    )


def test_pre_commit_uses_the_pinned_ruff():
    """pre-commit and tox run the same version of ruff."""
    revisions = {
        repo["repo"].rpartition("/")[2]: repo["rev"]
        for repo in load(ROOT / ".pre-commit-config.yaml")["repos"]
    }
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert revisions["ruff-pre-commit"] == f"v{pinned[1]}"
