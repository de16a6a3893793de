"""The command ``glowplug``, which groups all subcommands."""

from __future__ import annotations

import click

from glowplug._version import __version__
from glowplug.cli._doctor import doctor
from glowplug.cli._new import new
from glowplug.cli._plugins import plugins
from glowplug.cli._spool import spool

__all__ = ["main"]


@click.group(
    commands=[plugins, doctor, new, spool],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="glowplug")
def main() -> None:
    """Manage the plugins and the undelivered records of the glowplug training engine."""
