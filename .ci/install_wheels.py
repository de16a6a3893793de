"""Builds wheels of all distributions in a folder, which is the argument, and installs them."""

import subprocess
import sys
from pathlib import Path

from install import with_build_backend

ROOT = Path(__file__).parents[1]


def main(folder: str) -> None:
    """Build and install the wheels."""
    plugins = sorted((ROOT / "plugins").glob("glowplug-*"))
    projects = [str(project) for project in (ROOT / "core", *plugins)]
    run("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, *projects)
    names = ["glowplug", *(plugin.name for plugin in plugins)]
    run("install", "--no-compile", "-c", str(ROOT / "constraints.txt"), "--find-links", folder, *names)


def run(command: str, *arguments: str) -> None:
    """Run a command of pip."""
    pip = [sys.executable, "-I", "-m", "pip", command, "--quiet"]
    subprocess.run([*pip, *arguments], env=with_build_backend(), check=True)


if __name__ == "__main__":
    main(sys.argv[1])
