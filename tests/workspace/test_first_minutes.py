"""The commands of the README, run in a new environment that contains only declared dependencies."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

if os.environ.get("GLOWPLUG_WHEELS") != "1":
    pytest.skip(
        "needs the tox environment wheels, which has torch where other environments can share it",
        allow_module_level=True,
    )
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*command, folder=ROOT):
    """Run a command without the settings of the tests, and return its output."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("GLOWPLUG_", "PYTHON"))
    }
    # pip treats PIP_NO_COMPILE=0 as the option --no-compile, which saves half of the time.
    environment |= {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_NO_COMPILE": "0"}
    ended = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def command_with(part):
    """Return the arguments of the pip command in the README that contains a text; there must be exactly one."""
    (line,) = {each for each in re.findall(r"python -m (pip install [^`\n]+)", README) if part in each}
    return shlex.split(line)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return the interpreter of a new environment with the packages that the README installs for its script."""
    folder = tmp_path_factory.mktemp("stranger")
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    # pip would need half a minute to unpack torch once more.
    packages, own = (Path(sysconfig.get_path("purelib", vars=each)) for each in ({"base": str(folder)}, {}))
    shutil.copy(own / "torch.pth", packages)
    run(python, "-m", *command_with("./plugins/glowplug-early-stopping"))
    return python


def test_script(python, tmp_path):
    """The script of the README prints what is shown below it, twice and without warnings."""
    script, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL).groups()
    (tmp_path / "script.py").write_text(script)
    for _ in range(2):
        assert run(python, "-W", "error", tmp_path / "script.py", folder=tmp_path) == shown


def test_new_project(python, tmp_path):
    """The tests of a new project pass with the dependencies that it declares; all kinds of projects declare the same ones."""
    run(python, "-m", *command_with("[new]"))
    (command,) = re.findall(r"`glowplug (new \w+ [\w-]+)`", README)
    *options, name = shlex.split(command)
    printed = run(python.with_name("glowplug"), *options, name, folder=tmp_path)
    commands = re.findall(r"^    python (.+)$", printed, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        printed = run(python, *shlex.split(command), folder=tmp_path / name)
    assert re.search(r"\d+ passed", printed)
    assert "failed" not in printed
