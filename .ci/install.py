"""Installs packages into a tox environment that uses torch; all these environments share one installation of torch.

    python .ci/install.py <arguments of pip install>

Without sharing, each environment would unpack 800 MB. Torch's own requirements are shared with it, and nothing else, so an
environment still contains only what its distributions declare.
"""

import hashlib
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


def shared_torch() -> Path:
    """Install torch into a folder, unless it is there, and return the folder."""
    wanted = f"{sys.implementation.cache_tag} {CONSTRAINTS.read_text()}"
    shared = ROOT / ".tox" / f"torch-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if not shared.exists():
        shared.parent.mkdir(exist_ok=True)
        # Another environment may be doing the same, so the folder appears only when it is complete.
        temporary = Path(tempfile.mkdtemp(prefix="torch-", dir=shared.parent))
        subprocess.run([*PIP, "--target", str(temporary), "-c", str(CONSTRAINTS), "torch"], check=True)
        try:
            temporary.rename(shared)
        except OSError:
            shutil.rmtree(temporary)
    return shared


if __name__ == "__main__":
    Path(sysconfig.get_path("purelib"), "torch.pth").write_text(f"{shared_torch()}\n")
    sys.exit(subprocess.run([*PIP, *sys.argv[1:]], check=False).returncode)
