"""The command ``glowplug``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

    main: click.Group

__all__ = ["main"]

_COMMANDS = ("plugins", "doctor", "new")
"""Names of the commands; the module ``_<command>`` defines the function ``<command>``."""


def _make_main() -> click.Group:
    import click

    from glowplug._version import __version__

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="glowplug")
    def main() -> None:
        """Manage the plugins of the glowplug training engine."""

    for name in _COMMANDS:
        main.add_command(getattr(import_module(f"{__name__}._{name}"), name))
    return main


def __getattr__(name: str) -> Any:
    # The subprocess that loads plugins is part of this package and must not import click.
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = command = _make_main()
    return command
