"""What an interpreter of its own finds out about the plugins, so that their faults and imports stay out of this one."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from glowplug.exceptions import PluginIncompatibleError, PluginLoadError
from glowplug.plugins._discovery import InstalledPlugin
from glowplug.plugins._settings import is_tracing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from glowplug.hookspecs import Check
    from glowplug.plugins import Registry
    from glowplug.plugins._loading import Plugin

__all__ = ["LOAD_SECONDS", "PluginReport", "check_plugin", "diagnose_plugins", "report_plugins"]

LOAD_SECONDS = 10.0
"""How long one plugin's module may take to load before it is called faulty."""

CHECK_SECONDS = 120.0
"""How long one plugin's targets may take to import: they may need torch."""

DOCTOR_SECONDS = 10.0
"""How long one plugin's own checks may take: they may need a network."""

_LIGHT = {"glowplug", "pluggy", "packaging"} | set(sys.stdlib_module_names)

# The first statement keeps a file in the working folder from standing in for a module of ours.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from glowplug.cli._subprocess import _serve; _serve()"


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
        installed: what the metadata say, as `glowplug.plugins._discovery.installed_plugins` returns it.

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


def diagnose_plugins(
    installed: Iterable[InstalledPlugin], seconds: float = DOCTOR_SECONDS
) -> list[PluginReport]:
    """Let the plugins look at their surroundings, in another interpreter.

    Args:
        installed: what the metadata say, as `glowplug.plugins._discovery.installed_plugins` returns it.
        seconds: how long each plugin may take for it.

    Returns:
        One report for each, with the findings of its ``glowplug_doctor`` hook.

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
        # A child that ended may have done so for what an earlier plugin left behind: the next one is asked once more.
        if waiting and (hung or not answers):
            at_fault, *waiting = waiting
            reports[at_fault.key] = _report_unfinished(at_fault, task, ending)
    return [reports[plugin.key] for plugin in installed]


def _report_unfinished(plugin: InstalledPlugin, task: str, ending: str) -> PluginReport:
    """Report on a plugin that did not come to the end of a task: it may load all the same."""
    if task != "load":
        report = _report([plugin], "load", LOAD_SECONDS)[0]
        if report.status == "ok":
            what = "its own checks" if task == "diagnose" else "what it offers"
            finding = {"name": what, "status": "error", "message": ending, "remedy": "tell its author"}
            return replace(report, findings=(*report.findings, finding))
    return _failed(plugin, PluginLoadError(ending))


def _ask_child(
    plugins: Sequence[InstalledPlugin], task: str, seconds: float
) -> tuple[list[PluginReport], str, bool]:
    """Return the reports that a new interpreter managed to make, in order, how it ended, and whether it had to be."""
    fields = ("name", "distribution", "version", "module")
    questions = [{field: getattr(plugin, field) for field in fields} for plugin in plugins]
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(  # noqa: S603 it is this interpreter
            [sys.executable, "-c", _CHILD, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_read, args=(child, lines), daemon=True).start()
        try:
            with suppress(BrokenPipeError), child.stdin as stdin:  # type: ignore[union-attr] # it is a pipe
                stdin.write(json.dumps({"task": task, "plugins": questions}).encode())
            answers, hung = _answers(lines, len(plugins), seconds)
            returncode = 0 if hung or len(answers) == len(plugins) else child.wait()
        finally:
            child.kill()  # a plugin may have left a thread behind that would keep it
            child.wait()
        stderr.seek(0)
        words = stderr.read().decode(errors="replace")
    if is_tracing():
        sys.stderr.write(words)
    ending = f"it did not end within {seconds:g} s" if hung else _describe_end(returncode, words)
    return answers, ending, hung


def _read(child: subprocess.Popen[bytes], lines: queue.Queue[bytes]) -> None:
    with child.stdout as stdout:  # type: ignore[union-attr] # it is a pipe
        for line in stdout:
            lines.put(line)
    lines.put(b"")


def _answers(lines: queue.Queue[bytes], number: int, seconds: float) -> tuple[list[PluginReport], bool]:
    """Return the reports that came, and whether the next one took too long."""
    answers: list[PluginReport] = []
    while len(answers) < number:
        try:
            line = lines.get(timeout=seconds)
        except queue.Empty:
            return answers, True
        if not line.endswith(b"\n"):  # the child has ended, perhaps in the middle of an answer
            break
        answers.append(PluginReport(**json.loads(line)))
    return answers, False


def _describe_end(returncode: int, stderr: str) -> str:
    last_words = stderr.strip().splitlines()[-1:]
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
                "remedy": f"set GLOWPLUG_DISABLED_PLUGINS={report.distribution} or {other.distribution}",
            }


def _report_from_metadata(plugin: InstalledPlugin) -> PluginReport:
    if plugin.problem is not None:
        return _failed(plugin, plugin.problem)
    identity = (plugin.name, plugin.distribution, plugin.version, plugin.module)
    return PluginReport(*identity, status="blocked", cause=plugin.blocked_by)


def _failed(plugin: InstalledPlugin, error: BaseException) -> PluginReport:
    from glowplug.plugins._loading import PluginFailure

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

    before = set(sys.modules)
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
    findings: list[Check] = []
    if task == "check":
        findings += [_check_weight(plugin, set(sys.modules) - before), *_check_targets(registry, plugin)]
    else:
        findings += _check_duration(plugin)
    if task == "diagnose":
        findings += [check for _, check in registry.checks()]
    return replace(report, findings=tuple(asdict(finding) for finding in findings))


def _offers(plugin: Plugin) -> Iterable[dict[str, str]]:
    yield from (asdict(handler) for handler in plugin.handlers)
    yield from ({**asdict(metric), "kind": "metric"} for metric in plugin.metrics)
    yield from ({**asdict(event), "kind": "event"} for event in plugin.events)


def _check_duration(plugin: Plugin) -> Iterable[Check]:
    from glowplug.hookspecs import Check
    from glowplug.plugins._registry import SLOW_IMPORT_SECONDS

    if plugin.import_seconds > SLOW_IMPORT_SECONDS:
        yield Check(
            name=plugin.module,
            status="warning",
            message=f"takes {plugin.import_seconds:.1f} s to import, which everybody who has the plugin installed waits for",
            remedy="import what takes so long in the module of the target, or in its constructor",
        )


def _check_weight(plugin: Plugin, imported: set[str]) -> Check:
    from glowplug.hookspecs import Check

    own = plugin.module.partition(".")[0]
    brought = sorted({name.partition(".")[0] for name in imported} - _LIGHT - {own})
    if not brought:
        return Check(name=plugin.module, status="ok", message="imports no library")
    return Check(
        name=plugin.module,
        status="error",
        message=f"imports {', '.join(brought)}, which everybody who has the plugin installed waits for",
        remedy="import it in the module of the target, or in its constructor",
    )


def _check_targets(registry: Registry, plugin: Plugin) -> Iterable[Check]:
    from glowplug.cli._lint import inspect_offer
    from glowplug.hookspecs import Check

    resolvers = (
        (plugin.handlers, registry.resolve_handler),
        (plugin.metrics, registry.resolve_metric),
        (plugin.events, registry.resolve_event),
    )
    for specs, resolve in resolvers:
        for spec in specs:
            try:
                target = resolve(spec.name)
            except PluginLoadError as error:
                yield Check(name=spec.name, status="error", message=str(error))
            else:
                yield from inspect_offer(spec, target)
