"""``glowplug new``: a project for a plugin of one's own, whose tests pass as it is."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from glowplug import __version__

__all__ = ["KINDS", "create_project"]

KINDS = {
    "logger": "Writes scalars and hyper-parameters to a CSV file.",
    "handler": "Remembers the largest value that a metric has had.",
    "metric": "The mean absolute error.",
}
"""What there are templates for, and what the code in each of them does, in a sentence."""

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
_LONGEST_NAME = 50


def create_project(kind: str, name: str, directory: Path, author: str | None = None) -> Path:
    """Write the project of a plugin: source, tests, README, licence, tox.ini and a workflow for CI.

    Args:
        kind: one of `KINDS`.
        name: the name of the distribution, as in ``"acme-csv"``.
        directory: where its folder is made; made itself if it is missing.
        author: who is named in its metadata and licence. Default: the developers of ``name``.

    Returns:
        The folder, which has the name of the distribution.

    Raises:
        ValueError: a kind or a name that cannot be used; the text says which could.
        FileExistsError: there is something of that name; nothing was written.
        ModuleNotFoundError: copier is not installed; the text says how to get it.

    Example:
        >>> create_project("logger", "Acme CSV", Path())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: 'Acme CSV' cannot be the name of a distribution: write words of small letters and digits ... acme-csv
    """
    answers = _answers(kind, name, author)
    folder = directory / name
    if folder.exists():
        raise FileExistsError(
            f"{folder} is there already, and is left as it is; choose another name or directory"
        )
    run_copy = _import_copier()
    for template in ("common", kind):
        run_copy(str(_TEMPLATES / template), folder, data=answers, defaults=True, quiet=True)
    return folder


def _answers(kind: str, name: str, author: str | None) -> dict[str, Any]:
    """Return the values of the variables in the templates."""
    from glowplug.hookspecs import API_VERSION

    if kind not in KINDS:
        raise ValueError(f"there are templates for {', '.join(KINDS)}; got {kind!r}")
    _check_name(name)
    hook, spec = (
        ("glowplug_metrics", "MetricSpec") if kind == "metric" else ("glowplug_handlers", "HandlerSpec")
    )
    return {
        "api": API_VERSION,
        "author": author or f"The {name} developers",
        "class_name": _class_name(kind, name),
        "hook": hook,
        "kind": kind,
        "name": name,
        "package": name.replace("-", "_"),
        "requirement": f"glowplug>={'.'.join(__version__.split('.')[:2])},<2",
        "spec": spec,
        "summary": KINDS[kind],
        "year": datetime.now(tz=timezone.utc).year,
    }


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        tidy = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()).strip("-")
        example = tidy if _NAME.fullmatch(tidy) and len(tidy) <= _LONGEST_NAME else "acme-csv"
        raise ValueError(
            f"{name!r} cannot be the name of a distribution: write words of small letters and digits with hyphens between "
            f"them, at least two and at most {_LONGEST_NAME} characters in all, as in {example}"
        )
    if name.startswith("glowplug-"):
        raise ValueError(
            f"{name!r} cannot be used: names that begin with glowplug- are those of glowplug's own distributions. Begin with "
            f"your own, as in acme-{name}"
        )
    if len(_words(name)) == 1:
        raise ValueError(f"{name!r} says nothing but whose it is; add what it does, as in {name}-csv")


def _words(name: str) -> list[str]:
    return [word for word in name.split("-") if word != "glowplug"]


def _class_name(kind: str, name: str) -> str:
    words = _words(name)
    if kind == "logger" and words[-1] != "logger":
        words.append("logger")
    return "".join(word.capitalize() for word in words)


def _import_copier() -> Any:
    try:
        from copier import run_copy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the templates need copier, which is not installed: pip install "glowplug[new]"', name=error.name
        ) from error
    return run_copy
