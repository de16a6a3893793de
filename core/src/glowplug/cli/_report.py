"""Findings, printed as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glowplug._finding import Finding
from glowplug.cli._table import print_table

if TYPE_CHECKING:
    from glowplug.cli._subprocess import PluginReport

__all__ = ["overall_status", "print_findings"]


def overall_status(report: PluginReport) -> str:
    """Return the overall status of a plugin, taking its findings into account.

    Example:
        >>> from glowplug.cli._subprocess import PluginReport
        >>> overall_status(PluginReport("shout", "acme-shout", "1.0", "acme_shout._plugin", status="failed"))
        'error'
    """
    if report.status != "ok":
        return "blocked" if report.status == "blocked" else "error"
    found = {finding.status for finding in report.findings}
    return next((status for status in ("error", "warning") if status in found), "ok")


def print_findings(reports: Sequence[PluginReport], core: Sequence[Finding] = ()) -> None:
    """Print the findings about the core, then each plugin with its findings.

    Example:
        >>> print_findings([], [Finding("torch", "ok", "2.13.0")])
        PLUGIN    STATUS  WHAT   FOUND   REMEDY
        glowplug  ok      torch  2.13.0
    """
    rows = [_row("glowplug", finding) for finding in core]
    for report in reports:
        found = report.cause or f"{report.distribution} {report.version} loads"
        rows.append((report.name, report.status, "the plugin", found, report.remedy))
        rows.extend(_row(report.name, finding) for finding in report.findings)
    print_table(("plugin", "status", "what", "found", "remedy"), rows, below={"found": ("remedy",)})


def _row(plugin: str, finding: Finding) -> tuple[str, ...]:
    return (plugin, finding.status, finding.name, finding.message, finding.remedy)
