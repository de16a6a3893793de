"""Checks of the options of ProgressBar."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

RICH_OPTIONS = ("console", "desc", "disable", "file", "mininterval", "total")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise an error if a value is not one of the choices."""
    if value not in choices:
        close = get_close_matches(value, choices, n=1, cutoff=0.5) if isinstance(value, str) else []
        advice = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"ProgressBar: {name} must be {' or '.join(map(repr, choices))}, got {value!r}{advice}"
        )


def check_bool(name: str, value: object) -> None:
    """Raise an error if a value is not a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"ProgressBar: {name} must be True or False, got {value!r}")


def check_best(best: object, epoch_lines: bool | None) -> None:
    """Raise an error if a value is not the name of a metric, or if no line would show it."""
    if best is None:
        return
    if not isinstance(best, str) or not best:
        raise TypeError(f"ProgressBar: best must be the name of a metric, got {best!r}")
    if epoch_lines is False:
        raise ValueError(f"ProgressBar: best={best!r} has no effect with epoch_lines=False; omit one of them")


def check_tqdm_options(options: Iterable[str], of_attach: set[str]) -> None:
    """Raise an error if tqdm does not have one of the options.

    Args:
        options: Names of the options.
        of_attach: Names of the arguments of ``attach``.
    """
    # attach() provides the postfix, and the bar does not iterate over data.
    known = _options_of_tqdm()
    for name in options:
        _check_attach(name, of_attach)
        if name in RICH_OPTIONS and name not in known:
            raise TypeError(
                f"ProgressBar has no option {name!r} for bars of tqdm; pass style='rich' to use it"
            )
        if name not in known | {"display"}:
            close = get_close_matches(name, sorted({*_OWN, *known}), n=1)
            advice = f"did you mean {close[0]!r}?" if close else "see the options of tqdm.tqdm"
            raise TypeError(f"ProgressBar has no option {name!r}; {advice}")


def check_rich_options(options: Mapping[str, Any], of_attach: set[str]) -> None:
    """Raise an error if bars of rich do not have one of the options, or if its value is invalid."""
    from rich.console import Console

    for name in options:
        _check_attach(name, of_attach)
        if name in RICH_OPTIONS:
            continue
        listed = ", ".join(RICH_OPTIONS)
        if name in _options_of_tqdm() | {"bar_format"}:
            raise TypeError(
                f"ProgressBar: {name!r} is an option of tqdm, and style='rich' does not use tqdm; its options are {listed}"
            )
        close = get_close_matches(name, sorted({*_OWN, *RICH_OPTIONS}), n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"the options of style='rich' are {listed}"
        raise TypeError(f"ProgressBar has no option {name!r}; {advice}")
    console, interval = options.get("console"), options.get("mininterval", 0.0)
    if console is not None and not isinstance(console, Console):
        raise TypeError(f"ProgressBar: console must be a rich.console.Console, got {console!r}")
    if console is not None and options.get("file") is not None:
        raise ValueError("ProgressBar: a console has its own file; pass either console or file")
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not interval >= 0:
        raise ValueError(
            f"ProgressBar: mininterval must be a number of seconds, at least 0, got {interval!r}"
        )
    check_bool("disable", options.get("disable", False))


_OWN = ("persist", "style", "epoch_lines", "best", "mode")


def _options_of_tqdm() -> set[str]:
    from tqdm.std import tqdm

    return set(inspect.signature(tqdm.__init__).parameters) - {"self", "iterable", "postfix", "kwargs"}


def _check_attach(name: str, of_attach: set[str]) -> None:
    if name in of_attach:
        raise TypeError(
            f"ProgressBar has no option {name!r}; pass it to attach(): ProgressBar().attach(engine, {name}=...)"
        )
