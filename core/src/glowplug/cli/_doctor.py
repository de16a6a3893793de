"""The command ``glowplug doctor``; this module imports neither torch nor plugins."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import click

from glowplug._finding import Finding
from glowplug._folders import HOME_VARIABLE, spool_folder
from glowplug._version import __version__
from glowplug.cli._report import overall_status, print_findings
from glowplug.cli._subprocess import DOCTOR_SECONDS, diagnose_plugins
from glowplug.plugins import (
    ALLOW_VARIABLE,
    BLOCK_VARIABLE,
    STRICT_VARIABLE,
    TRACE_VARIABLE,
    installed_plugins,
)

__all__ = ["doctor", "examine_core", "examine_requirements"]

TORCH_SECONDS = 60.0
"""Time limit for importing torch and listing its devices."""

_SETTINGS = (ALLOW_VARIABLE, BLOCK_VARIABLE, STRICT_VARIABLE, TRACE_VARIABLE, HOME_VARIABLE)
_LOW_SPACE = 100 * 2**20

_DEVICES = """
import json, torch
found = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
found += ["mps"] if torch.backends.mps.is_available() else []
print(json.dumps([torch.version.cuda, found]))
"""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
@click.option("--torch", is_flag=True, help="Import torch, in a subprocess, to list its devices.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=DOCTOR_SECONDS,
    show_default=True,
    help="Time limit in seconds for the checks of each plugin.",
)
def doctor(as_json: bool, torch: bool, time_limit: float) -> None:
    """Check the glowplug core, its requirements and all plugins.

    Versions and requirements are read from the metadata of the installed distributions. A subprocess loads the plugins and
    runs their checks; blocked plugins are not loaded.

    Exit code: 0 if there are no errors, even if there are warnings or blocked plugins; 1 if there are errors; 2 for incorrect
    usage.
    """
    core = examine_core(torch=torch)
    installed = installed_plugins()
    unmet = {plugin.key: examine_requirements(plugin.distribution) for plugin in installed if plugin.loadable}
    reports = [
        replace(report, findings=(*unmet.get(plugin.key, ()), *report.findings))
        for plugin, report in zip(installed, diagnose_plugins(installed, time_limit), strict=True)
    ]
    if as_json:
        found = {"core": list(map(asdict, core)), "plugins": list(map(asdict, reports))}
        click.echo(json.dumps(found, indent=2))
    else:
        print_findings(reports, core)
    statuses = {finding.status for finding in core} | {overall_status(report) for report in reports}
    click.get_current_context().exit(1 if "error" in statuses else 0)


def examine_core(*, torch: bool = False) -> list[Finding]:
    """Check the glowplug core: its version and requirements, Python, torch, settings and the spool folder.

    Args:
        torch: Whether to import torch in a subprocess and list the available devices. With ``False``, the default, only the
            metadata of torch is read.

    Returns:
        The findings, in display order.

    Example:
        >>> [finding.name for finding in examine_core()][:3]
        ['glowplug', 'Python', 'torch']
    """
    return [
        Finding("glowplug", "ok", f"{__version__} in {Path(__file__).parent.parent}"),
        Finding(
            "Python",
            "ok",
            f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}",
        ),
        *_examine_torch(torch),
        *(Finding(name, "ok", repr(os.environ[name])) for name in _SETTINGS if name in os.environ),
        *(examine_requirements("glowplug") or [Finding("requirements", "ok", "all are installed")]),
        _examine_spool(spool_folder()),
    ]


def examine_requirements(distribution: str) -> list[Finding]:
    """Compare the requirements of a distribution with the installed versions.

    Args:
        distribution: Name of the distribution.

    Returns:
        A finding for each requirement that is not met.

    Example:
        >>> examine_requirements("no-such-distribution")
        []
    """
    from packaging.requirements import Requirement

    found = []
    # Damaged metadata is already reported as a fault of the plugin.
    with suppress(Exception):
        for text in importlib.metadata.requires(distribution) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                version = _version(requirement.name)
                if version is None or not requirement.specifier.contains(version, prereleases=True):
                    state = "is not installed" if version is None else f"{version} is installed"
                    found.append(
                        Finding(
                            "requirements",
                            "error",
                            f"{distribution} requires {requirement}, but {requirement.name} {state}",
                            f'pip install "{requirement}"',
                        )
                    )
    return found


def _examine_torch(list_devices: bool) -> list[Finding]:
    version = _version("torch")
    if version is None:
        return [Finding("torch", "error", "not installed", "pip install torch")]
    not_checked = "not checked, to avoid importing torch; to check: glowplug doctor --torch"
    devices = _examine_devices() if list_devices else Finding("devices", "ok", not_checked)
    return [Finding("torch", "ok", version), devices]


def _examine_devices() -> Finding:
    """Import torch in a subprocess to list the available devices."""
    remedy = 'run: python -c "import torch"'
    try:
        ended = subprocess.run(  # noqa: S603 this interpreter
            [sys.executable, "-c", _DEVICES],
            capture_output=True,
            text=True,
            timeout=TORCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding("devices", "error", f"importing torch took more than {TORCH_SECONDS:g} s", remedy)
    if ended.returncode:
        last_words = "".join(ended.stderr.strip().splitlines()[-1:])
        message = f"importing torch failed (exit code {ended.returncode}): {last_words}"
        return Finding("devices", "error", message, remedy)
    cuda, devices = json.loads(ended.stdout.splitlines()[-1])
    build = f"built for CUDA {cuda}" if cuda else "built without CUDA"
    return Finding("devices", "ok", f"{', '.join(devices) or 'cpu only'}; {build}")


def _examine_spool(folder: Path) -> Finding:
    """Check that the spool folder is writable, without creating it."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    remedy = f"set {HOME_VARIABLE} to a writable folder"
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"glowplug")
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding("spool folder", "error", f"{folder} is not writable: {error}", remedy)
    if free < _LOW_SPACE:
        remedy = f"free some disk space, or set {HOME_VARIABLE} to a folder on another disk"
        return Finding(
            "spool folder", "warning", f"{folder} has only {free / 2**20:.0f} MB of free space", remedy
        )
    return Finding("spool folder", "ok", f"{folder} is writable")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
