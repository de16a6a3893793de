"""Compare glowplug with pytorch-ignite and loops written by hand: ``python tests/benchmarks [theme ...] [--json FILE]``."""

import argparse
import datetime as dt
import importlib
import os
import platform
import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from harness import FLOOR, IGNITE, VARIANTS, write_json
from rich.console import Console
from rich.table import Table

THEMES = ("engine", "handlers", "imports", "metrics", "loggers", "checkpoints", "whole_run", "votes")
# A part of a page, with the themes that it shows.
MEASURED = re.compile(r"<!-- measured (?P<themes>[\w ]+): begin -->\n.*?<!-- measured: end -->", re.DOTALL)
HEAD = ("per", "by hand", "ignite", "glowplug", "vs by hand", "vs ignite", "goal", "met by minima")


def number(value):
    """Return a number with three significant digits."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def cells(row):
    """Return the cells of a row: medians, with minima in brackets."""
    times = [
        f"{number(row['median'][name])} ({number(row['minimum'][name])})" if name in row["median"] else ""
        for name in VARIANTS
    ]
    ratios = [ratio_cell(row["ratio"].get(name)) for name in (FLOOR, IGNITE)]
    if row["difference"]:
        ratios[0] = f"{row['difference']['of medians']:+.2f} ({row['difference']['of minima']:+.2f})"
    goals = "; ".join(goal["goal"].replace(FLOOR, "by hand") for goal in row["goals"])
    reached = "; ".join("yes" if goal["reached"] else "NO" for goal in row["goals"])
    return [row["what"], row["unit"], *times, *ratios, goals, reached]


def ratio_cell(ratio):
    """Return the ratio of glowplug to another variant, by medians, with minima in brackets."""
    if ratio is None:
        return ""
    if ratio["of minima"] >= 0.5:
        return f"{ratio['of medians']:.2f} ({ratio['of minima']:.2f}) x"
    return f"1 / {number(1 / ratio['of medians'])} ({number(1 / ratio['of minima'])})"


def machine():
    """Return a description of the machine."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch-ignite": version("pytorch-ignite"),
        "glowplug": version("glowplug"),
        "load before": round(os.getloadavg()[0], 2),
    }


def markdown(about, rows):
    """Return a table of rows for docs/performance.md, below a description of the machine."""
    measured = (
        f"Measured on {about['date']}: {about['processors']} processor cores shared with other work ({about['system']}, "
        f"{about['architecture']}; load {about['load before']} before, {about['load after']} after), torch on one thread, "
        f"Python {about['python']}, torch {about['torch']}, pytorch-ignite {about['pytorch-ignite']}."
    )
    lines = [
        measured,
        "",
        f"| what | {' | '.join(HEAD)} |",
        f"|{'---|' * (len(HEAD) + 1)}",
        *(f"| {' | '.join(cells(row))} |" for row in rows),
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
    table = Table(title="medians (minima) of interleaved rounds; times in the unit of the row")
    for name in ("what", *HEAD):
        table.add_column(name)
    for row in report["rows"]:
        table.add_row(*cells(row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    if given.json:
        write_json(given.json, report)
    if given.page:
        update(given.page, report)


if __name__ == "__main__":
    main()
