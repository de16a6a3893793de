"""Builds wheels in a folder and installs them.

    python .ci/install_wheels.py <folder> [<projects>]

Without projects, all distributions are installed with their requirements; projects are installed without.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import install
from distributions import distributions


def main(folder: str, *projects: str) -> None:
    """Build and install the wheels."""
    everything = distributions()
    build(Path(folder), projects or [str(each.folder) for each in everything])
    # The versions may be those that are installed already.
    options = ["--quiet", "--no-compile", "--no-deps", "--force-reinstall"]
    wheels = map(str, Path(folder).glob("*.whl"))
    subprocess.run([sys.executable, "-I", "-m", "pip", "install", *options, *wheels], check=True)
    if not projects:
        names = [each.name for each in everything]
        sys.exit(install.main(["--quiet", "-c", str(install.CONSTRAINTS), *names]))


def build(folder: Path, projects: Iterable[str]) -> None:
    """Build the wheels in this process, because pip would start two processes for each."""
    sys.path.append(install.build_backend())
    from hatchling.build import build_wheel

    absolute = str(folder.resolve())
    for project in projects:
        with contextlib.chdir(project):
            build_wheel(absolute)


if __name__ == "__main__":
    main(*sys.argv[1:])
