"""Compare glowplug with other libraries and with loops written by hand: ``python tests/benchmarks [theme ...] [--json FILE]``."""

import argparse
import datetime as dt
import importlib
import itertools
import os
import platform
import re
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from harness import FLOOR, GLOWPLUG, IGNITE, KERAS, LIGHTNING, write_json
from rich.console import Console
from rich.table import Table

THEMES = (
    "engine",
    "handlers",
    "imports",
    "metrics",
    "loggers",
    "checkpoints",
    "whole_run",
    "votes",
    "trainers",
)
# A part of a page, with the themes that it shows.
MEASURED = re.compile(r"<!-- measured (?P<themes>[\w ]+): begin -->\n.*?<!-- measured: end -->", re.DOTALL)
TITLES = {FLOOR: "by hand", IGNITE: "ignite", LIGHTNING: "Lightning", KERAS: "Keras", GLOWPLUG: "glowplug"}
HEAD = (
    "what",
    "per",
    *TITLES.values(),
    *(f"vs {title}" for name, title in TITLES.items() if name != GLOWPLUG),
    "goal",
    "met by minima",
)
DISTRIBUTIONS = {IGNITE: "pytorch-ignite", LIGHTNING: "lightning", KERAS: "keras"}


def number(value):
    """Return a number with three significant digits."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def cells(row):
    """Return the cells of a row: medians, with minima in brackets."""
    times = [
        f"{number(row['median'][name])} ({number(row['minimum'][name])})" if name in row["median"] else ""
        for name in TITLES
    ]
    ratios = [ratio_cell(row["ratio"].get(name)) for name in TITLES if name != GLOWPLUG]
    if row["difference"]:
        ratios[0] = f"{row['difference']['of medians']:+.2f} ({row['difference']['of minima']:+.2f})"
    goals = "; ".join(goal["goal"].replace(FLOOR, "by hand") for goal in row["goals"])
    reached = "; ".join("yes" if goal["reached"] else "NO" for goal in row["goals"])
    return [row["what"], row["unit"], *times, *ratios, goals, reached]


def table(rows):
    """Return the titles of the columns, followed by the cells of each row; empty columns are omitted."""
    lines = [HEAD, *(cells(row) for row in rows)]
    is_used = [any(column) for column in zip(*lines[1:], strict=True)]
    return [list(itertools.compress(line, is_used)) for line in lines]


def ratio_cell(ratio):
    """Return the ratio of glowplug to another variant, by medians, with minima in brackets."""
    if ratio is None:
        return ""
    if ratio["of minima"] >= 0.5:
        return f"{ratio['of medians']:.2f} ({ratio['of minima']:.2f}) x"
    return f"1 / {number(1 / ratio['of medians'])} ({number(1 / ratio['of minima'])})"


def installed_version(distribution):
    """Return the version of a distribution, or None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def machine():
    """Return a description of the machine."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: installed_version(name) for name in DISTRIBUTIONS.values()},
        "glowplug": version("glowplug"),
        "load before": round(os.getloadavg()[0], 2),
    }


def markdown(about, rows):
    """Return a table of rows for docs/performance.md, below a description of the machine."""
    measured = {name for row in rows for name in row["median"]}
    others = [distribution for name, distribution in DISTRIBUTIONS.items() if name in measured]
    versions = ", ".join(f"{name} {about[name]}" for name in ("torch", *others))
    head, *body = table(rows)
    first = (
        f"Measured on {about['date']}: {about['processors']} processor cores shared with other work ({about['system']}, "
        f"{about['architecture']}; load {about['load before']} before, {about['load after']} after), torch on one thread, "
        f"Python {about['python']}, {versions}."
    )
    lines = [
        first,
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in body),
    ]
    return "\n".join(lines)


def update(page, report):
    """Replace the parts of a page of which all themes were measured."""
    measured = {row["theme"] for row in report["rows"]}

    def part(match):
        themes = match["themes"].split()
        if not measured.issuperset(themes):
            return match[0]
        rows = [row for row in report["rows"] if row["theme"] in themes]
        table = markdown(report["machine"], rows)
        return f"<!-- measured {match['themes']}: begin -->\n{table}\n<!-- measured: end -->"

    page.write_text(MEASURED.sub(part, page.read_text()))


def arguments():
    """Return the command-line options."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks", description=__doc__)
    parser.add_argument(
        "themes", nargs="*", metavar="theme", help=f"themes to measure: {', '.join(THEMES)}; default: all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the results")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="a page to update, such as docs/performance.md"
    )
    given = parser.parse_args()
    for theme in given.themes:
        if theme not in THEMES:
            parser.error(f"unknown theme {theme!r}; the themes are {', '.join(THEMES)}")
    if given.page and given.themes:
        tables = [match["themes"] for match in MEASURED.finditer(given.page.read_text())]
        if not any(set(given.themes).issuperset(table.split()) for table in tables):
            parser.error(
                f"no table of {given.page} would be updated; measure all themes of one: {'; '.join(tables)}"
            )
    return given


def main():
    """Measure, print and write the report."""
    given = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")  # from ignite and the libraries that it uses
    report = {"machine": machine(), "rows": []}
    for theme in given.themes or THEMES:
        for row in importlib.import_module(theme).rows():
            report["rows"].append({"theme": theme, **row.measure()})
            print(f"measured: {row.what}", file=sys.stderr)
    report["machine"]["load after"] = round(os.getloadavg()[0], 2)
    head, *body = table(report["rows"])
    shown = Table(title="medians (minima) of interleaved rounds; times in the unit of the row")
    for title in head:
        shown.add_column(title)
    for row in body:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
    if given.json:
        write_json(given.json, report)
    if given.page:
        update(given.page, report)


if __name__ == "__main__":
    main()
