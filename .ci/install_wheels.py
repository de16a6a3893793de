"""Builds wheels in a folder and installs them.

    python .ci/install_wheels.py <folder> [<projects>]

Without projects, all distributions are installed with their requirements; projects are installed without.
"""

import subprocess
import sys
from pathlib import Path

import install
from distributions import distributions


def main(folder: str, *projects: str) -> None:
    """Build and install the wheels."""
    everything = distributions()
    folders = projects or [str(each.folder) for each in everything]
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, *folders)
    # The versions may be those that are installed already.
    pip("install", "--no-compile", "--no-deps", "--force-reinstall", *map(str, Path(folder).glob("*.whl")))
    if not projects:
        names = [each.name for each in everything]
        sys.exit(install.main(["--quiet", "-c", str(install.CONSTRAINTS), *names]))


def pip(command: str, *arguments: str) -> None:
    """Run a command of pip."""
    subprocess.run(
        [sys.executable, "-I", "-m", "pip", command, "--quiet", *arguments],
        env=install.with_build_backend(),
        check=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
