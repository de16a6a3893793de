"""What an interpreter of its own finds out about the plugins, so that their faults and imports stay out of this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from glowplug.discovery import InstalledPlugin
from glowplug.exceptions import PluginIncompatibleError, PluginLoadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from glowplug.hookspecs import Check
    from glowplug.loading import Plugin, Spec
    from glowplug.plugins import Registry

__all__ = ["LOAD_SECONDS", "PluginReport", "check_plugin", "diagnose_plugins", "report_plugins"]

LOAD_SECONDS = 10.0
"""How long the plugin modules may take to load before the one that is at it is called faulty."""

CHECK_SECONDS = 120.0
"""How long a plugin's targets may take to import, or its own checks to run: they may need torch, or a network."""

_HEAVY = ("torch", "numpy", "pandas", "tensorflow", "tensorboard", "mlflow", "matplotlib")

# The first statement keeps a file in the working folder from standing in for a module of ours.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from glowplug.probe import _serve; _serve()"


@dataclass(frozen=True)
class PluginReport:
    """What is known of an installed plugin.

    Args:
        name: name of its entry point.
        distribution: the distribution that brings it.
        version: version of that distribution.
        module: the name of its plugin module.
        status: ``"ok"``, ``"failed"``, ``"incompatible"`` or ``"blocked"``.
        cause: why it is not ok, in one line.
        remedy: what to do about it.
        offers: what it offers: kind, name, target and summary of each.
        hooks: the hooks that it implements.
        import_seconds: how long the import of its module took.
        findings: what was noticed: name, status (ok, warning or error), message and remedy of each.

    Example:
        >>> PluginReport("shout", "acme-shout", "1.0", "acme_shout._plugin", status="ok").names
        []
    """

    name: str
    distribution: str
    version: str
    module: str
    status: str
    cause: str = ""
    remedy: str = ""
    offers: tuple[dict[str, str], ...] = ()
    hooks: tuple[str, ...] = ()
    import_seconds: float = 0.0
    findings: tuple[dict[str, str], ...] = ()

    @property
    def names(self) -> list[str]:
        """The names that it offers."""
        return [offer["name"] for offer in self.offers]


def report_plugins(installed: Iterable[InstalledPlugin]) -> list[PluginReport]:
    """Report on plugins; one other interpreter imports their plugin modules, this one imports none.

    Args:
        installed: what the metadata say, as `glowplug.discovery.installed_plugins` returns it.

    Returns:
        One report for each, in the same order.

    Example:
        >>> blocked = InstalledPlugin("shout", "acme-shout", "1.0", blocked_by="GLOWPLUG_PLUGINS=")
        >>> report_plugins([blocked])[0].status
        'blocked'
    """
    return _find_conflicts(_report(list(installed), "load", LOAD_SECONDS))


def check_plugin(installed: InstalledPlugin) -> PluginReport:
    """Import all that a plugin offers in another interpreter, and look at it.

    Args:
        installed: what the metadata say about it.

    Returns:
        A report with findings, one for each thing that was looked at.

    Example:
        >>> check_plugin(InstalledPlugin("x", "acme-x", "1.0", "acme_no_such_module")).cause
        "ModuleNotFoundError: No module named 'acme_no_such_module'"
    """
    return _report([installed], "check", CHECK_SECONDS)[0]


def diagnose_plugins(installed: Iterable[InstalledPlugin]) -> list[PluginReport]:
    """Let the plugins look at their surroundings, in another interpreter.

    Args:
        installed: what the metadata say, as `glowplug.discovery.installed_plugins` returns it.

    Returns:
        One report for each, with the findings of its ``glowplug_doctor`` hook.

    Example:
        >>> diagnose_plugins([])
        []
    """
    return _find_conflicts(_report(list(installed), "diagnose", CHECK_SECONDS))


def _report(installed: Sequence[InstalledPlugin], task: str, time_limit: float) -> list[PluginReport]:
    reports = {plugin.key: _report_from_metadata(plugin) for plugin in installed if not plugin.loadable}
    waiting = [plugin for plugin in installed if plugin.loadable]
    while waiting:
        answers, ending = _ask_child(waiting, task, time_limit)
        reports.update(zip((plugin.key for plugin in waiting), answers, strict=False))
        if not answers:  # the child did not get past the first one
            reports[waiting[0].key] = _failed(waiting[0], PluginLoadError(ending))
        waiting = waiting[max(1, len(answers)) :]
    return [reports[plugin.key] for plugin in installed]


def _ask_child(
    plugins: Sequence[InstalledPlugin], task: str, time_limit: float
) -> tuple[list[PluginReport], str]:
    """Return the reports that a new interpreter managed to make, in order, and how it ended."""
    questions = [
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "module": plugin.module,
        }
        for plugin in plugins
    ]
    try:
        child = subprocess.run(  # noqa: S603 it is this interpreter
            [sys.executable, "-c", _CHILD, *sys.path],
            input=json.dumps({"task": task, "plugins": questions}).encode(),
            capture_output=True,
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        output, ending = error.stdout or b"", f"it did not end within {time_limit:g} s"
    else:
        output, ending = child.stdout, _describe_end(child.returncode, child.stderr)
    complete = output[: output.rfind(b"\n") + 1]
    return [PluginReport(**json.loads(line)) for line in complete.splitlines()], ending


def _describe_end(returncode: int, stderr: bytes) -> str:
    last_words = stderr.decode(errors="replace").strip().splitlines()[-1:]
    how = f"exit code {returncode}" if returncode >= 0 else signal.Signals(-returncode).name
    return ": ".join([f"it ended the interpreter that imported it ({how})", *last_words])


def _find_conflicts(reports: list[PluginReport]) -> list[PluginReport]:
    """Add where two plugins offer the same name: neither is at fault, and neither can be had by that name."""
    return [replace(report, findings=(*_conflicts(report, reports), *report.findings)) for report in reports]


def _conflicts(report: PluginReport, reports: Iterable[PluginReport]) -> Iterable[dict[str, str]]:
    for other in reports:
        for name in set(report.names) & set(other.names) if other is not report else ():
            yield {
                "name": name,
                "status": "error",
                "message": f"{name} is also offered by {other.distribution} {other.version}",
                "remedy": f"set GLOWPLUG_DISABLED_PLUGINS={report.name} or {other.name}",
            }


def _report_from_metadata(plugin: InstalledPlugin) -> PluginReport:
    if plugin.problem is not None:
        return _failed(plugin, plugin.problem)
    identity = (plugin.name, plugin.distribution, plugin.version, plugin.module)
    return PluginReport(*identity, status="blocked", cause=plugin.blocked_by)


def _failed(plugin: InstalledPlugin, error: BaseException) -> PluginReport:
    from glowplug.loading import PluginFailure

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
    """Answer the questions on standard input, one line each; what the plugins print goes to standard error."""
    request = json.load(sys.stdin)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for question in request["plugins"]:
            report = _examine(InstalledPlugin(**question), request["task"])
            print(json.dumps(asdict(report)), file=answers, flush=True)


def _examine(installed: InstalledPlugin, task: str) -> PluginReport:
    from glowplug.plugins import Registry

    registry = Registry([installed])
    if registry.failures:
        return _failed(installed, registry.failures[0].exception)
    plugin = registry.plugins[0]
    report = PluginReport(
        plugin.name,
        plugin.distribution,
        plugin.version,
        plugin.module,
        status="ok",
        offers=tuple(_offers(plugin)),
        hooks=plugin.hooks,
        import_seconds=round(plugin.import_seconds, 3),
    )
    if task == "check":
        findings: Iterable[Check] = [_check_weight(plugin), *_check_targets(registry, plugin)]
    elif task == "diagnose":
        findings = [check for _, check in registry.checks()]
    else:
        findings = []
    return replace(report, findings=tuple(asdict(finding) for finding in findings))


def _offers(plugin: Plugin) -> Iterable[dict[str, str]]:
    yield from (asdict(handler) for handler in plugin.handlers)
    yield from ({**asdict(metric), "kind": "metric"} for metric in plugin.metrics)
    yield from ({**asdict(event), "kind": "event"} for event in plugin.events)


def _check_weight(plugin: Plugin) -> Check:
    from glowplug.hookspecs import Check

    heavy = [name for name in _HEAVY if name in sys.modules]
    if not heavy:
        return Check(name=plugin.module, status="ok", message="imports nothing heavy")
    return Check(
        name=plugin.module,
        status="error",
        message=f"imports {', '.join(heavy)}, which everybody who has the plugin installed waits for",
        remedy="import it in the module of the target, or in its constructor",
    )


def _check_targets(registry: Registry, plugin: Plugin) -> Iterable[Check]:
    for handler in plugin.handlers:
        needed = ("attach",) if handler.kind in {"handler", "logger"} else ()
        yield _check_target(handler, registry.resolve_handler, needed)
    for metric in plugin.metrics:
        yield _check_target(metric, registry.resolve_metric, ("attach", "reset", "update", "compute"))
    for event in plugin.events:
        yield _check_target(event, registry.resolve_event, ())


def _check_target(spec: Spec, resolve: Any, needed: tuple[str, ...]) -> Check:
    from glowplug.hookspecs import Check

    try:
        target = resolve(spec.name)
    except PluginLoadError as error:
        return Check(name=spec.name, status="error", message=str(error))
    missing = [
        method
        for method in needed
        if isinstance(target, type) and not callable(getattr(target, method, None))
    ]
    if missing:
        return Check(
            name=spec.name,
            status="error",
            message=f"{spec.target} has no method {', '.join(missing)}",
            remedy="add it, or state another kind",
        )
    return Check(name=spec.name, status="ok", message=spec.target)
