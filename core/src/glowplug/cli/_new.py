"""The command ``glowplug new``."""

from __future__ import annotations

import re
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from glowplug._version import __version__

__all__ = ["KINDS", "create_project", "new"]

KINDS = {
    "logger": "Writes scalars and hyperparameters to a CSV file.",
    "handler": "Remembers the largest value of a metric.",
    "metric": "The mean absolute error.",
}
"""Maps each kind of template to a summary of the plugin that it creates."""

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
_LONGEST_NAME = 50


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Parent of the new folder. Default: the current folder.",
)
@click.option("--author", help="Author in the metadata and the licence.")
def new(kind: str, name: str, directory: Path, author: str | None) -> None:
    """Create a project with a small working plugin.

    NAME, such as acme-csv, becomes the name of the distribution and of the new folder.

    This command requires copier. To install copier, run: pip install "glowplug[new]"

    Exit code: 0 for success; 1 if the project cannot be created, for example because the folder exists; 2 for incorrect
    usage or an invalid NAME.
    """
    try:
        folder = create_project(kind, name, directory, author)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except (OSError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Created a working {kind} in {folder}. Next:\n")
    for command in (
        f"cd {shlex.quote(str(folder))}",
        'python -m pip install -e ".[test]"',
        "python -m pytest",
    ):
        click.echo(f"    {command}")


def create_project(kind: str, name: str, directory: Path, author: str | None = None) -> Path:
    """Create a plugin project with tests, a README, a licence, a tox.ini and a CI workflow.

    Args:
        kind: One of ``KINDS``.
        name: Name of the distribution, such as ``"acme-csv"``.
        directory: Parent of the new folder. If the parent does not exist, it is created.
        author: Author named in the metadata and the licence. Defaults to ``"The <name> developers"``.

    Returns:
        The new folder, named after the distribution.

    Raises:
        ValueError: If the kind or the name is invalid.
        FileExistsError: If the folder already exists; the existing folder is not changed.
        ModuleNotFoundError: If copier is not installed.

    Example:
        >>> create_project("logger", "Acme CSV", Path())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: 'Acme CSV' is not a valid name: use at least two lower-case words ... acme-csv
    """
    answers = _answers(kind, name, author)
    folder = directory / name
    if folder.exists():
        raise FileExistsError(f"{folder} already exists; choose another name or directory")
    try:
        from copier import run_copy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'glowplug new needs copier: pip install "glowplug[new]"', name=error.name
        ) from error
    for template in ("common", kind):
        run_copy(str(_TEMPLATES / template), folder, data=answers, defaults=True, quiet=True)
    return folder


def _answers(kind: str, name: str, author: str | None) -> dict[str, Any]:
    """Return the values of the template variables."""
    from glowplug.hookspecs import API_VERSION

    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    _check_name(name)
    versions = f">={'.'.join(__version__.split('.')[:2])},<2"
    return {
        "api": API_VERSION,
        "author": author or f"The {name} developers",
        "class_name": _class_name(kind, name),
        "kind": kind,
        "name": name,
        "package": name.replace("-", "_"),
        "requirement": f"glowplug{versions}",
        "summary": KINDS[kind],
        "testing": f"glowplug-testing{versions}",
        "year": datetime.now(tz=timezone.utc).year,
    }


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        tidy = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()).strip("-")
        example = tidy if _NAME.fullmatch(tidy) and len(tidy) <= _LONGEST_NAME else "acme-csv"
        raise ValueError(
            f"{name!r} is not a valid name: use at least two lower-case words joined by hyphens,"
            f" with at most {_LONGEST_NAME} characters in total, as in {example}"
        )
    if name.startswith("glowplug-"):
        raise ValueError(
            f"{name!r} is reserved: the prefix glowplug- belongs to the glowplug project; use another prefix, as in acme-{name}"
        )
    if len(_words(name)) == 1:
        raise ValueError(f"{name!r} does not say what the plugin does; add a word, as in {name}-csv")


def _words(name: str) -> list[str]:
    return [word for word in name.split("-") if word != "glowplug"]


def _class_name(kind: str, name: str) -> str:
    words = _words(name)
    if kind == "logger" and words[-1] != "logger":
        words.append("logger")
    return "".join(word.capitalize() for word in words)
