"""Installs packages into a tox environment; environments share the large packages that several of them need.

    python .ci/install.py [--without-torch] <arguments of pip install>

Without sharing, each environment would unpack 800 MB of torch, and each distribution would install hatchling to be built. What an
environment shares is chosen by what it installs, so it still contains only what its distributions declare, and the test tools.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
# Compiling all of torch and mlflow would take half of the time, and the tests import a small part of them.
PIP = (sys.executable, "-I", "-m", "pip", "install", "--no-compile")


def shared_folder(name: str, *packages: str, used: str = "") -> Path:
    """Install packages into a folder, unless it is there, and return the folder.

    Of the packages, only the modules that an import of those in ``used`` imports are compiled.
    """
    wanted = f"{sys.implementation.cache_tag} {packages} {CONSTRAINTS.read_text()}"
    shared = ROOT / ".tox" / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    shared.parent.mkdir(exist_ok=True)
    with shared.with_suffix(".lock").open("w") as lock:
        # Another environment may be installing the same. The lock is released when the file is closed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            # The folder appears only when it is complete.
            temporary = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=shared.parent))
            subprocess.run([*PIP, "--target", str(temporary), "-c", str(CONSTRAINTS), *packages], check=True)
            if used:
                # Otherwise, the first processes of the tests, which start together, would each compile the same modules.
                script = f"import sys; sys.path.insert(0, {str(temporary)!r}); import {used}"
                subprocess.run([sys.executable, "-I", "-W", "ignore", "-c", script], check=True)
            temporary.rename(shared)
    return shared


def build_backend() -> str:
    """Return the folder of the packages that build the distributions."""
    return str(shared_folder("build", "hatchling", "hatch-fancy-pypi-readme", "editables"))


def shared_folders(arguments: list[str], *, with_torch: bool) -> list[Path]:
    """Return the folders that an environment shares when it installs these packages."""
    folders = []
    if with_torch:
        # The core requires both.
        folders += [shared_folder("torch", "torch", used="torch._dynamo"), shared_folder("numpy", "numpy")]
    if "pytest" in arguments:
        folders.append(shared_folder("pytest", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis"))
    if any(argument.endswith("glowplug-mlflow") for argument in arguments):
        folders.append(shared_folder("mlflow", "mlflow", used="mlflow.store.tracking.sqlalchemy_store"))
    return folders


def main(arguments: list[str]) -> int:
    """Make this environment see the folders that it shares, install the rest, and return the exit status of pip."""
    with_torch = "--without-torch" not in arguments
    arguments = [argument for argument in arguments if argument != "--without-torch"]
    for folder in shared_folders(arguments, with_torch=with_torch):
        name = folder.name.partition("-")[0]
        Path(sysconfig.get_path("purelib"), f"{name}.pth").write_text(f"{folder}\n")
    # pip itself, which runs with -I, ignores PYTHONPATH; the process that it starts for a build does not.
    environment = {**os.environ, "PYTHONPATH": build_backend()}
    command = [*PIP, "--no-build-isolation", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
