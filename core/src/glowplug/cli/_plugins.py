"""The command ``glowplug``."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glowplug import __version__
from glowplug.cli._doctor import examine_core, examine_requirements
from glowplug.cli._new import KINDS, create_project
from glowplug.cli._subprocess import DOCTOR_SECONDS, check_plugin, diagnose_plugins, report_plugins
from glowplug.cli._table import one_line, print_table
from glowplug.plugins._discovery import installed_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowplug.cli._subprocess import PluginReport

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glowplug")
def main() -> None:
    """Look after the plugins of the glowplug training engine."""


@main.group()
def plugins() -> None:
    """List and check the installed plugins.

    GLOWPLUG_PLUGINS=a,b lets only these plugins load, GLOWPLUG_DISABLED_PLUGINS=c,* keeps these from loading; both
    take names of plugins or of distributions.
    """


@plugins.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON list, with all that is known of each plugin."
)
def list_plugins(as_json: bool) -> None:
    """List the installed plugins, faulty and blocked ones included.

    Each is ok, failed, incompatible (made for another glowplug) or blocked. A plugin's code runs in another
    interpreter only; that of a blocked one does not run at all.

    Exit code: 0, whatever is listed; 2 for wrong usage.
    """
    reports = report_plugins(installed_plugins())
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports], indent=2))
    elif not reports:
        click.echo("No plugins are installed. To get one: pip install glowplug-early-stopping")
    else:
        print_table(
            ("name", "distribution", "version", "status", "offers", "cause"),
            [
                (
                    report.name,
                    report.distribution,
                    report.version,
                    report.status,
                    ", ".join(report.names),
                    report.cause or "; ".join(finding["message"] for finding in report.findings),
                )
                for report in reports
            ],
            below={"name": ("distribution", "version"), "offers": ("cause",)},
        )


@plugins.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one plugin: NAME is its name, its distribution, or something that it offers.

    Exit code: 0; 2 for wrong usage, a NAME that is not installed included.
    """
    for report in _select(name):
        fields = {
            "name": report.name,
            "distribution": f"{report.distribution} {report.version}",
            "module": report.module,
            "status": report.status,
            "cause": report.cause,
            "remedy": report.remedy,
            "hooks": ", ".join(report.hooks),
            "import": f"{report.import_seconds:.3f} s" if report.status == "ok" else "",
        }
        noticed = [("noticed", f"{finding['message']}; {finding['remedy']}") for finding in report.findings]
        for field, value in (*fields.items(), *noticed):
            if value:
                click.echo(f"{field + ':':<14}{one_line(value)}")
        if report.offers:
            click.echo()
            print_table(
                ("offers", "kind", "target", "summary"),
                [
                    (offer["name"], offer["kind"], offer["target"], offer["summary"])
                    for offer in report.offers
                ],
                below={"target": ("summary",)},
            )


@plugins.command()
@click.argument("name")
def check(name: str) -> None:
    """Import all that one plugin offers, and check that it can be used.

    NAME is the plugin's name, its distribution, or something that it offers. Its code runs in another interpreter.

    Exit code: 0 if all is well; 1 if something is not, a warning or a blocked plugin included; 2 for wrong usage, a NAME that is
    not installed included.
    """
    installed = {(plugin.name, plugin.distribution): plugin for plugin in installed_plugins()}
    reports = []
    for report in _select(name):
        checked = check_plugin(installed[report.name, report.distribution])
        reports.append(replace(checked, findings=(*report.findings, *checked.findings)))
    _print_findings(reports)
    _exit_if(any(_status(report) != "ok" for report in reports))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, with all that was found.")
@click.option("--torch", is_flag=True, help="Import torch, in another process, to see its devices.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=DOCTOR_SECONDS,
    show_default=True,
    help="Seconds that the checks of each plugin may take.",
)
def doctor(as_json: bool, torch: bool, time_limit: float) -> None:
    """Look at the core, at what it stands on, and at each plugin; let the plugins check what they need.

    Versions and requirements are compared as the metadata have them. Plugins run in another process, and blocked ones do
    not run at all.

    Exit code: 0 if nothing is wrong, blocked plugins and warnings included; 1 if something is; 2 for wrong usage.
    """
    core = examine_core(torch=torch)
    installed = installed_plugins()
    unmet = {plugin.key: examine_requirements(plugin.distribution) for plugin in installed if plugin.loadable}
    reports = [
        replace(report, findings=(*unmet.get(plugin.key, ()), *report.findings))
        for plugin, report in zip(installed, diagnose_plugins(installed, time_limit), strict=True)
    ]
    if as_json:
        click.echo(json.dumps({"core": core, "plugins": [asdict(report) for report in reports]}, indent=2))
    else:
        _print_findings(reports, [("glowplug", *_cells(finding)) for finding in core])
    broken = any(finding["status"] == "error" for finding in core)
    _exit_if(broken or any(_status(report) == "error" for report in reports))


@main.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where its folder is made; here by default.",
)
@click.option("--author", help="Who is named in its metadata and licence.")
def new(kind: str, name: str, directory: Path, author: str | None) -> None:
    """Make the project of a plugin: a small one that works, to be turned into what you need.

    NAME is that of its distribution and its folder, as in acme-csv. Needs copier: pip install "glowplug[new]".

    Exit code: 0; 1 if it cannot be made, where a folder of that name is there already; 2 for wrong usage, a NAME that
    cannot be used included.
    """
    try:
        folder = create_project(kind, name, directory, author)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except (OSError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{folder} is a {kind} that works. Next:\n")
    for command in (
        f"cd {shlex.quote(str(folder))}",
        'python -m pip install -e ".[test]"',
        "python -m pytest",
    ):
        click.echo(f"    {command}")


def _select(name: str) -> list[PluginReport]:
    reports = report_plugins(installed_plugins())
    wanted = _spelling(name)
    known = {
        _spelling(alias): alias
        for report in reports
        for alias in (report.name, report.distribution, *report.names)
    }
    if wanted not in known:
        matches = get_close_matches(wanted, known, n=1)
        hint = f" Did you mean {known[matches[0]]}?" if matches else " To see what is: glowplug plugins list"
        raise click.UsageError(f"no plugin {name!r} is installed.{hint}")
    return [
        report
        for report in reports
        if wanted in map(_spelling, (report.name, report.distribution, *report.names))
    ]


def _spelling(name: str) -> str:
    return name.lower().replace("_", "-")


def _status(report: PluginReport) -> str:
    """Return the worst of a plugin's own status and its findings."""
    if report.status != "ok":
        return "blocked" if report.status == "blocked" else "error"
    found = {finding["status"] for finding in report.findings}
    return next((status for status in ("error", "warning") if status in found), "ok")


def _print_findings(reports: Sequence[PluginReport], rows: Sequence[Sequence[str]] = ()) -> None:
    rows = list(rows)
    for report in reports:
        found = report.cause or f"{report.distribution} {report.version} loads"
        rows.append((report.name, report.status, "the plugin", found, report.remedy))
        rows.extend((report.name, *_cells(finding)) for finding in report.findings)
    print_table(("plugin", "status", "what", "found", "remedy"), rows, below={"found": ("remedy",)})


def _cells(finding: dict[str, str]) -> tuple[str, ...]:
    return tuple(finding[field] for field in ("status", "name", "message", "remedy"))


def _exit_if(wrong: bool) -> None:
    if wrong:
        click.get_current_context().exit(1)
