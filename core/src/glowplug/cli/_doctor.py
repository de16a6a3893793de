"""What ``glowplug doctor`` finds out about the core and the machine; nothing here imports torch or a plugin."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from glowplug import __version__
from glowplug.loggers._spool import HOME_VARIABLE, spool_folder
from glowplug.plugins._settings import ALLOW_VARIABLE, BLOCK_VARIABLE, STRICT_VARIABLE, TRACE_VARIABLE

__all__ = ["Finding", "examine_core", "examine_requirements"]

Finding = dict[str, str]
"""name, status (ok, warning or error), message and remedy of one thing that was looked at."""

TORCH_SECONDS = 60.0
"""How long an import of torch, and the look at its devices, may take."""

_SETTINGS = (ALLOW_VARIABLE, BLOCK_VARIABLE, STRICT_VARIABLE, TRACE_VARIABLE, HOME_VARIABLE)
_LOW_SPACE = 100 * 2**20

_DEVICES = """
import json, torch
found = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
found += ["mps"] if torch.backends.mps.is_available() else []
print(json.dumps([torch.version.cuda, found]))
"""


def examine_core(*, torch: bool = False) -> list[Finding]:
    """Look at the core and at what it stands on.

    Args:
        torch: import torch, in another interpreter, to name its devices. Default False: its metadata will do.

    Returns:
        The findings, in the order in which they are to be shown.

    Example:
        >>> [finding["name"] for finding in examine_core()][:3]
        ['glowplug', 'Python', 'torch']
    """
    return [
        _finding("glowplug", f"{__version__} in {Path(__file__).parent.parent}"),
        _finding(
            "Python",
            f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}",
        ),
        *_examine_torch(torch),
        *(_finding(name, repr(os.environ[name])) for name in _SETTINGS if name in os.environ),
        *(examine_requirements("glowplug") or [_finding("requirements", "all are installed")]),
        _examine_spool(spool_folder()),
    ]


def examine_requirements(distribution: str) -> list[Finding]:
    """Compare what a distribution asks for with what is installed, as ``pip check`` does.

    Args:
        distribution: its name.

    Returns:
        A finding for each requirement that is not met.

    Example:
        >>> examine_requirements("no-such-distribution")
        []
    """
    from packaging.requirements import Requirement

    found = []
    with suppress(Exception):  # damaged metadata are told of with the plugin that has them
        for text in importlib.metadata.requires(distribution) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                version = _version(requirement.name)
                if version is None or not requirement.specifier.contains(version, prereleases=True):
                    state = "is not installed" if version is None else f"{version} is installed"
                    message = f"{requirement.name} {state}, and {distribution} needs {requirement}"
                    remedy = f'pip install "{requirement}"'
                    found.append(_finding("requirements", message, "error", remedy))
    return found


def _examine_torch(look: bool) -> Iterator[Finding]:
    version = _version("torch")
    if version is None:
        yield _finding("torch", "not installed", "error", "pip install torch")
        return
    yield _finding("torch", version)
    if not look:
        yield _finding("devices", "not looked at, as this would import torch: glowplug doctor --torch")
        return
    child = [sys.executable, "-c", _DEVICES]
    try:
        ended = subprocess.run(child, capture_output=True, text=True, timeout=TORCH_SECONDS, check=False)  # noqa: S603 it is this interpreter
    except subprocess.TimeoutExpired:
        message = f"torch was not imported within {TORCH_SECONDS:g} s"
        yield _finding("devices", message, "error", 'try it: python -c "import torch"')
        return
    if ended.returncode:
        last_words = "".join(ended.stderr.strip().splitlines()[-1:])
        message = f"torch cannot be used (exit code {ended.returncode}): {last_words}"
        yield _finding("devices", message, "error", 'try it: python -c "import torch"')
        return
    cuda, devices = json.loads(ended.stdout.splitlines()[-1])
    build = f"built for CUDA {cuda}" if cuda else "built without CUDA"
    yield _finding("devices", f"{', '.join(devices) or 'cpu only'}; {build}")


def _examine_spool(folder: Path) -> Finding:
    """Try to write where records would wait, and create no folder for it."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    remedy = f"set {HOME_VARIABLE} to a folder that can be written"
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"glowplug")
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return _finding("spool folder", f"{folder} cannot be written: {error}", "error", remedy)
    if free < _LOW_SPACE:
        message = f"{folder} has {free / 2**20:.0f} MB left"
        return _finding("spool folder", message, "warning", remedy)
    return _finding("spool folder", f"{folder} can be written")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _finding(name: str, message: str, status: str = "ok", remedy: str = "") -> Finding:
    return {"name": name, "status": status, "message": message, "remedy": remedy}
