"""The command ``glowplug plugins``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from glowplug.cli._report import overall_status, print_findings
from glowplug.cli._subprocess import check_plugin, report_plugins
from glowplug.cli._table import one_line, print_table
from glowplug.plugins import CATALOGUE, installed_plugins

if TYPE_CHECKING:
    from glowplug.cli._subprocess import PluginReport

__all__ = ["plugins"]


@click.group()
def plugins() -> None:
    """List and check the installed plugins, and search for others.

    GLOWPLUG_PLUGINS=a,b allows only the plugins a and b. GLOWPLUG_DISABLED_PLUGINS=c,d* blocks the plugin c and all plugins
    whose names start with d. Both variables accept names of plugins and of distributions. In a name, the wildcards * and ? are
    allowed.
    """


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print all information as JSON.")
def list_plugins(as_json: bool) -> None:
    """List the installed plugins, including faulty and blocked ones.

    The status of a plugin is ok, failed, incompatible or blocked. An incompatible plugin requires another version of
    glowplug. Plugins are loaded in a subprocess; blocked plugins are never loaded.

    Exit code: 0 for success; 2 for incorrect usage.
    """
    reports = report_plugins(installed_plugins())
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports], indent=2))
    elif not reports:
        click.echo("No plugins are installed. Install one: pip install glowplug-early-stopping")
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
                    report.cause or "; ".join(finding.message for finding in report.findings),
                )
                for report in reports
            ],
            below={"name": ("distribution", "version"), "offers": ("cause",)},
        )


@plugins.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one plugin.

    NAME is the name of a plugin, of its distribution, or of one of its offers.

    Exit code: 0 for success; 2 for incorrect usage or a NAME that is not installed.
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
        notes = [("finding", f"{finding.message}; {finding.remedy}") for finding in report.findings]
        for field, value in (*fields.items(), *notes):
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
    """Import and check everything that one plugin offers.

    NAME is the name of a plugin, of its distribution, or of one of its offers. The plugin is loaded in a subprocess.

    Exit code: 0 if the plugin has no problems; 1 if there is an error or a warning, or if the plugin is blocked; 2 for incorrect
    usage or a NAME that is not installed.
    """
    installed = {plugin.key: plugin for plugin in installed_plugins()}
    reports = []
    for report in _select(name):
        checked = check_plugin(installed[report.key])
        reports.append(replace(checked, findings=(*report.findings, *checked.findings)))
    print_findings(reports)
    is_ok = all(overall_status(report) == "ok" for report in reports)
    click.get_current_context().exit(0 if is_ok else 1)


@plugins.command()
@click.argument("words", nargs=-1)
def search(words: tuple[str, ...]) -> None:
    """Search the published plugins that this version of glowplug knows.

    A plugin is found if each of the WORDS occurs in the name of its distribution, in its summary or in the name of something
    that it offers. Without WORDS, all plugins are shown. The search needs no network.

    Exit code: 0 if a plugin is found; 1 if none is; 2 for incorrect usage.
    """
    installed = {plugin.distribution for plugin in installed_plugins()}
    found = [
        plugin
        for plugin in CATALOGUE
        for text in [_searchable(" ".join((plugin.distribution, plugin.summary, *plugin.offers)))]
        if all(_searchable(word) in text for word in words)
    ]
    if not found:
        raise click.ClickException(
            f"no known plugin matches {' '.join(words)!r}. To see all plugins: glowplug plugins search"
        )
    print_table(
        ("distribution", "installed", "summary", "offers"),
        [
            (
                plugin.distribution,
                "yes" if plugin.distribution in installed else "no",
                plugin.summary,
                ", ".join(plugin.offers),
            )
            for plugin in found
        ],
        below={"distribution": ("installed",), "summary": ("offers",)},
    )


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
        hint = f" Did you mean {known[matches[0]]}?" if matches else " List them with: glowplug plugins list"
        raise click.UsageError(f"no installed plugin, distribution or offer is named {name!r}.{hint}")
    return [
        report
        for report in reports
        if wanted in map(_spelling, (report.name, report.distribution, *report.names))
    ]


def _spelling(name: str) -> str:
    return name.lower().replace("_", "-")


def _searchable(text: str) -> str:
    return _spelling(text).replace("-", " ")
