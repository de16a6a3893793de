"""Installs packages into a tox environment that uses torch; all these environments share torch and the build backend.

    python .ci/install.py <arguments of pip install>

Without sharing, each environment would unpack 800 MB of torch, and each distribution would install hatchling to be built. Torch's
own requirements are shared with it, and nothing else, so an environment still contains only what its distributions declare.
Likewise, the environments with glowplug-mlflow share MLflow with what it requires.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
# Compiling all of torch and mlflow would take half of the time, and the tests import a small part of them.
PIP = (sys.executable, "-I", "-m", "pip", "install", "--no-compile")


def shared_folder(name: str, *packages: str) -> Path:
    """Install packages into a folder, unless it is there, and return the folder."""
    wanted = f"{sys.implementation.cache_tag} {packages} {CONSTRAINTS.read_text()}"
    shared = ROOT / ".tox" / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if not shared.exists():
        shared.parent.mkdir(exist_ok=True)
        # Another environment may be doing the same, so the folder appears only when it is complete.
        temporary = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=shared.parent))
        subprocess.run([*PIP, "--target", str(temporary), "-c", str(CONSTRAINTS), *packages], check=True)
        try:
            temporary.rename(shared)
        except OSError:
            shutil.rmtree(temporary)
    return shared


def with_build_backend() -> dict[str, str]:
    """Return environment variables with which pip builds distributions with ``--no-build-isolation``."""
    # pip itself, which runs with -I, ignores PYTHONPATH; the process that it starts for a build does not.
    return {
        **os.environ,
        "PYTHONPATH": str(shared_folder("build", "hatchling", "hatch-fancy-pypi-readme", "editables")),
    }


if __name__ == "__main__":
    shared = ["torch"]
    if any(argument.endswith("glowplug-mlflow") for argument in sys.argv):
        shared.append("mlflow")
    for package in shared:
        path = Path(sysconfig.get_path("purelib"), f"{package}.pth")
        path.write_text(f"{shared_folder(package, package)}\n")
    command = [*PIP, "--no-build-isolation", *sys.argv[1:]]
    sys.exit(subprocess.run(command, env=with_build_backend(), check=False).returncode)
