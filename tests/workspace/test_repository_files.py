"""The files that GitHub, pre-commit and citation tools read."""

import configparser
import fnmatch
import re
import subprocess
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
RELEASE = ROOT / ".github" / "workflows" / "release.yml"
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path):
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def named_environments(workflow):
    """Return the tox environments that the commands of a workflow name, with each value of the matrix of a job."""
    named = set()
    for job in workflow["jobs"].values():
        commands = "\n".join(step["run"] for step in job["steps"] if "tox run" in step.get("run", ""))
        ((key, values),) = job.get("strategy", {}).get("matrix", {"": [""]}).items()
        for value in values:
            # The shell expands what tox receives.
            script = f'python() {{ echo "$*"; }}\n{commands.replace(f"${{{{ matrix.{key} }}}}", value)}'
            called = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
            named |= set(re.findall(r"tox run -e (\S+)", called))
    return named


def expanded(name):
    """Return the names that a name with alternatives in braces stands for."""
    before, brace, rest = name.partition("{")
    if not brace:
        return [name]
    alternatives, _, after = rest.partition("}")
    return [one for each in alternatives.split(",") for one in expanded(f"{before}{each}{after}")]


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
def test_actions_are_pinned(path):
    """A workflow names each action by its commit, with the version in a comment, because a tag can be moved to other code."""
    used = re.findall(r"uses: (.+)", path.read_text(encoding="utf-8"))
    assert used
    assert [text for text in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", text)] == []


@each_workflow
def test_environments_exist(path):
    """The tox environments that a workflow runs exist, with each value of its matrix."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    sections = [name.removeprefix("testenv:") for name in tox.sections() if name.startswith("testenv:")]
    named = named_environments(load(path))
    assert named
    assert named <= {name for section in sections for name in expanded(section)}


def test_the_tag_of_a_release(tmp_path):
    """The tag in RELEASING.md starts the workflow `release`, which refuses it if the built version is another one."""
    workflow = load(RELEASE)
    tag = re.search(r"git tag --annotate (\S+)", (ROOT / "RELEASING.md").read_text(encoding="utf-8"))[1]
    assert any(fnmatch.fnmatchcase(tag, pattern) for pattern in workflow[True]["push"]["tags"])  # YAML's "on"
    (check,) = (step["run"] for step in workflow["jobs"]["build"]["steps"] if "GITHUB_REF_NAME" in str(step))
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / f"glowplug-{tag.removeprefix('v')}.tar.gz").touch()
    codes = [
        subprocess.run(
            ["bash", "-c", check], cwd=tmp_path, env={"GITHUB_REF_NAME": name}, check=False
        ).returncode
        for name in (tag, f"{tag}rc1", "v9.9.9")
    ]
    assert codes == [0, 1, 1]


def test_who_can_publish():
    """Only one job can publish: it waits for the environment in RELEASING.md, and runs no command."""
    jobs = load(RELEASE)["jobs"]
    assert {name: job["environment"] for name, job in jobs.items() if "environment" in job} == {
        "publish": "pypi"
    }
    assert "the environment `pypi`" in " ".join((ROOT / "RELEASING.md").read_text(encoding="utf-8").split())
    assert [step for step in jobs["publish"]["steps"] if "run" in step] == []


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
