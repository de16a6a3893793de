"""The commands of the README, run in a new environment that contains only declared dependencies."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

if os.environ.get("GLOWPLUG_WHEELS") != "1":
    pytest.skip("needs the tox environment wheels, because pip installs torch again", allow_module_level=True)
pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
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
    run(python, "-m", *command_with("./plugins/glowplug-early-stopping"))
    return python


def lines_on_a_terminal(*command):
    """Run a command in a terminal, and return the lines that remain on the screen."""
    master, slave = pty.openpty()
    # tqdm draws nothing on a terminal without rows.
    termios.tcsetwinsize(slave, (24, 100))
    with subprocess.Popen([*map(str, command)], stdout=slave, stderr=slave, cwd="/") as job:
        os.close(slave)
        written = b""
        with contextlib.suppress(OSError):
            while part := os.read(master, 4096):
                written += part
    os.close(master)
    assert job.returncode == 0, written.decode()
    assert b"it/s]" in written
    rows = written.decode().replace("\r\n", "\n").split("\n")
    return [text for text in (row.rpartition("\r")[2].rstrip() for row in rows) if text]


def test_script(python, tmp_path):
    """The script of the README runs twice without warnings, and its progress bar does not mix with printed lines."""
    (tmp_path / "script.py").write_text(re.search(r"```python\n(.*?)```", README, re.DOTALL)[1])
    for _ in range(2):
        lines = lines_on_a_terminal(python, tmp_path / "script.py")
        assert len(lines) > 2
        for epoch, line in enumerate(lines, 1):
            assert re.fullmatch(rf"epoch {epoch}: validation loss \d\.\d{{5}}", line)


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
