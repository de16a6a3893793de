"""Inspect plugins in a subprocess."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from glowplug._finding import Finding
from glowplug.exceptions import PluginIncompatibleError, PluginLoadError
from glowplug.plugins import InstalledPlugin, PluginIdentity, is_tracing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from glowplug.plugins import Plugin, Registry

__all__ = [
    "DOCTOR_SECONDS",
    "LOAD_SECONDS",
    "PluginReport",
    "check_plugin",
    "diagnose_plugins",
    "report_plugins",
]

LOAD_SECONDS = 10.0
"""Time limit in seconds for loading one plugin module."""

CHECK_SECONDS = 120.0
"""Time limit in seconds for importing the targets of one plugin; a target may import torch."""

DOCTOR_SECONDS = 10.0
"""Time limit in seconds for the checks of one plugin; a check may use the network."""

_LIGHT = {"glowplug", "pluggy", "packaging"} | set(sys.stdlib_module_names)

# Set the path first: a file in the working folder must not shadow a module.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from glowplug.cli._subprocess import _serve; _serve()"

_TIMEOUT = b"Timeout ("
"""Start of the line that ``faulthandler`` writes when the time limit expires."""


@dataclass(frozen=True)
class PluginReport(PluginIdentity):
    """Description of an installed plugin.

    Args:
        name: Name of the entry point.
        distribution: Distribution that provides the plugin.
        version: Version of the distribution.
        module: Name of the plugin module.
        status: ``"ok"``, ``"failed"``, ``"incompatible"`` or ``"blocked"``.
        cause: Why the status is not ``"ok"``, in one line.
        remedy: How to fix or disable the plugin.
        offers: Name, target, kind and summary of each offer.
        hooks: Names of the hooks that the plugin implements.
        import_seconds: Import time of the plugin module, in seconds.
        findings: Results of the checks.

    Example:
        >>> PluginReport("shout", "acme-shout", "1.0", "acme_shout._plugin", status="ok").names
        []
    """

    module: str
    status: str
    cause: str = ""
    remedy: str = ""
    offers: tuple[dict[str, str], ...] = ()
    hooks: tuple[str, ...] = ()
    import_seconds: float = 0.0
    findings: tuple[Finding, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the plugin's offers."""
        return [offer["name"] for offer in self.offers]


def report_plugins(installed: Iterable[InstalledPlugin]) -> list[PluginReport]:
    """Describe plugins after importing their modules in a subprocess.

    Args:
        installed: Plugins returned by ``glowplug.plugins.installed_plugins``.

    Returns:
        One report per plugin, in the order of ``installed``.

    Example:
        >>> blocked = InstalledPlugin("shout", "acme-shout", "1.0", blocked_by="GLOWPLUG_PLUGINS=")
        >>> report_plugins([blocked])[0].status
        'blocked'
    """
    return _find_conflicts(_report(list(installed), "load", LOAD_SECONDS))


def check_plugin(installed: InstalledPlugin) -> PluginReport:
    """Import and check the offers of a plugin in a subprocess.

    Args:
        installed: The plugin.

    Returns:
        A report with the findings.

    Example:
        >>> check_plugin(InstalledPlugin("x", "acme-x", "1.0", "acme_no_such_module")).cause
        "ModuleNotFoundError: No module named 'acme_no_such_module'"
    """
    return _report([installed], "check", CHECK_SECONDS)[0]


def diagnose_plugins(
    installed: Iterable[InstalledPlugin], seconds: float = DOCTOR_SECONDS
) -> list[PluginReport]:
    """Run the ``glowplug_doctor`` hooks of plugins in a subprocess.

    Args:
        installed: Plugins returned by ``glowplug.plugins.installed_plugins``.
        seconds: Time limit for each plugin, in seconds.

    Returns:
        One report per plugin, with the findings of its ``glowplug_doctor`` hook.

    Example:
        >>> diagnose_plugins([])
        []
    """
    return _find_conflicts(_report(list(installed), "diagnose", seconds))


def _report(installed: Sequence[InstalledPlugin], task: str, seconds: float) -> list[PluginReport]:
    reports = {plugin.key: _report_from_metadata(plugin) for plugin in installed if not plugin.loadable}
    waiting = [plugin for plugin in installed if plugin.loadable]
    while waiting:
        answers, ending, hung = _ask_child(waiting, task, seconds)
        reports.update(zip((plugin.key for plugin in waiting), answers, strict=False))
        waiting = waiting[len(answers) :]
        # An earlier plugin may have ended the subprocess, so retry the next plugin in a new subprocess.
        if waiting and (hung or not answers):
            at_fault, *waiting = waiting
            reports[at_fault.key] = _report_unfinished(at_fault, task, ending)
    return [reports[plugin.key] for plugin in installed]


def _report_unfinished(plugin: InstalledPlugin, task: str, ending: str) -> PluginReport:
    """Return the report of a plugin that did not finish a task; first check whether the plugin can at least be loaded."""
    if task != "load":
        report = _report([plugin], "load", LOAD_SECONDS)[0]
        if report.status == "ok":
            what = "glowplug_doctor" if task == "diagnose" else "offers"
            finding = Finding(what, "error", ending, "report this to the plugin's author")
            return replace(report, findings=(*report.findings, finding))
    return _failed(plugin, PluginLoadError(ending))


def _ask_child(
    plugins: Sequence[InstalledPlugin], task: str, seconds: float
) -> tuple[list[PluginReport], str, bool]:
    """Inspect plugins in a new subprocess; return the reports, how the subprocess ended, and whether it timed out."""
    request = {"task": task, "seconds": seconds, "plugins": list(map(asdict, plugins))}
    # Use files: a process that a plugin has started may keep a pipe open after the subprocess has ended.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        ended = subprocess.run(  # noqa: S603 this interpreter
            [sys.executable, "-c", _CHILD, *sys.path],
            input=json.dumps(request).encode(),
            stdout=stdout,
            stderr=stderr,
            check=False,
        )
        stdout.seek(0)
        stderr.seek(0)
        lines = stdout.readlines()
        words = stderr.read().decode(errors="replace")
    if is_tracing():
        sys.stderr.write(words)
    # The subprocess may have ended in the middle of an answer.
    answers = [_parse(line) for line in lines if line.startswith(b"{") and line.endswith(b"}\n")]
    hung = any(line.startswith(_TIMEOUT) for line in lines)
    ending = (
        f"the plugin did not finish within {seconds:g} s" if hung else _describe_end(ended.returncode, words)
    )
    return answers, ending, hung


def _parse(line: bytes) -> PluginReport:
    fields = json.loads(line)
    findings = tuple(Finding(**finding) for finding in fields.pop("findings"))
    return PluginReport(**fields, findings=findings)


def _describe_end(returncode: int, stderr: str) -> str:
    last_words = stderr.strip().splitlines()[-1:]
    how = f"exit code {returncode}" if returncode >= 0 else signal.Signals(-returncode).name
    return ": ".join([f"the plugin terminated the Python process that imported it ({how})", *last_words])


def _find_conflicts(reports: list[PluginReport]) -> list[PluginReport]:
    """Add a finding for each name that two plugins offer."""
    return [replace(report, findings=(*_conflicts(report, reports), *report.findings)) for report in reports]


def _conflicts(report: PluginReport, reports: Iterable[PluginReport]) -> Iterable[Finding]:
    for other in reports:
        for name in set(report.names) & set(other.names) if other is not report else ():
            yield Finding(
                name,
                "error",
                f"{name} is also offered by {other.distribution} {other.version}",
                f"set GLOWPLUG_DISABLED_PLUGINS to {report.distribution} or {other.distribution}",
            )


def _report_from_metadata(plugin: InstalledPlugin) -> PluginReport:
    if plugin.problem is not None:
        return _failed(plugin, plugin.problem)
    return PluginReport(
        plugin.name,
        plugin.distribution,
        plugin.version,
        plugin.module,
        status="blocked",
        cause=plugin.blocked_by,
    )


def _failed(plugin: InstalledPlugin, error: BaseException) -> PluginReport:
    from glowplug.plugins import PluginFailure

    failure = PluginFailure(plugin.name, plugin.distribution, plugin.version, error)
    return PluginReport(
        plugin.name,
        plugin.distribution,
        plugin.version,
        plugin.module,
        status="incompatible" if isinstance(error, PluginIncompatibleError) else "failed",
        cause=failure.cause,
        remedy=failure.remedy,
    )


def _serve() -> None:
    """Read a request from standard input and write one line per plugin to standard output."""
    # Redirect the output of plugins to standard error, so that standard output contains only the answers.
    request = json.load(sys.stdin)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for question in request["plugins"]:
            # At the time limit, write _TIMEOUT and a traceback, then end the process, even if the plugin hangs in C code.
            faulthandler.dump_traceback_later(request["seconds"], exit=True, file=answers)
            report = _examine(InstalledPlugin(**question), request["task"])
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(asdict(report)), file=answers, flush=True)
    # Exit at once: a thread started by a plugin could keep the process alive.
    os._exit(0)


def _examine(installed: InstalledPlugin, task: str) -> PluginReport:
    from glowplug.plugins import Registry

    before = set(sys.modules)
    registry = Registry([installed])
    if registry.failures:
        return _failed(installed, registry.failures[0].exception)
    plugin = registry.plugins[0]
    if task == "check":
        findings = [_check_weight(plugin, set(sys.modules) - before), *_check_targets(registry, plugin)]
    else:
        findings = list(_check_duration(plugin))
    if task == "diagnose":
        findings += [finding for _, finding in registry.findings()]
    return PluginReport(
        plugin.name,
        plugin.distribution,
        plugin.version,
        plugin.module,
        status="ok",
        offers=tuple(map(asdict, plugin.offers)),
        hooks=plugin.hooks,
        import_seconds=round(plugin.import_seconds, 3),
        findings=tuple(findings),
    )


def _check_duration(plugin: Plugin) -> Iterable[Finding]:
    from glowplug.plugins import SLOW_IMPORT_SECONDS

    if plugin.import_seconds > SLOW_IMPORT_SECONDS:
        yield Finding(
            plugin.module,
            "warning",
            f"takes {plugin.import_seconds:.1f} s to import, which delays every user of the plugin",
            "move the slow import to the module of the offer's target",
        )


def _check_weight(plugin: Plugin, imported: set[str]) -> Finding:
    own = plugin.module.partition(".")[0]
    brought = sorted({name.partition(".")[0] for name in imported} - _LIGHT - {own})
    if not brought:
        return Finding(plugin.module, "ok", "imports no library")
    return Finding(
        plugin.module,
        "error",
        f"imports {', '.join(brought)}, which delays every user of the plugin",
        "move the import to the module or constructor of the offer's target",
    )


def _check_targets(registry: Registry, plugin: Plugin) -> Iterable[Finding]:
    from glowplug.cli._lint import inspect_offer

    for offer in plugin.offers:
        try:
            target = registry.resolve(offer.kind, offer.name)
        except PluginLoadError as error:
            yield Finding(offer.name, "error", str(error))
        else:
            yield from inspect_offer(offer, target)
