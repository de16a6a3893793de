"""Installs packages into a tox environment, with the lowest version of torch that the core allows.

    python .ci/install_lowest_torch.py <arguments of pip install>

The versions of all other packages are those in constraints.txt. torch is not shared, so that it is deleted with the environment.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from install import CONSTRAINTS, PIP, ROOT

core = (ROOT / "core" / "pyproject.toml").read_text(encoding="utf-8")
(lowest,) = re.findall(r'"torch>=([\d.]+)"', core)
constraints = re.sub(
    r"^torch==.*$", f"torch=={lowest}", CONSTRAINTS.read_text(encoding="utf-8"), flags=re.MULTILINE
)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "constraints.txt")
    path.write_text(constraints, encoding="utf-8")
    sys.exit(subprocess.run([*PIP, "-c", str(path), *sys.argv[1:]], check=False).returncode)
