"""Readers of the files."""

import csv
import json

import pytest


def read_lines(path, kind=None):
    """Return the lines of a JSON Lines file, all or those with the given kind."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if kind in (None, line["kind"])]


def json_scalars(path):
    """Return name, step and value of each number in a JSON Lines file."""
    return [
        (name, line["step"], value)
        for line in read_lines(path, "scalars")
        for name, value in line["values"].items()
    ]


def csv_scalars(path):
    """Return name, step and value of each number in a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["name"], int(row["step"]), float(row["value"])) for row in csv.DictReader(file)]


@pytest.fixture
def lines_of():
    """Return the function that reads the lines of a JSON Lines file."""
    return read_lines


@pytest.fixture
def scalars_of():
    """Return a function that reads the scalars of a JSON Lines or CSV file."""
    return lambda path: (csv_scalars if path.suffix == ".csv" else json_scalars)(path)
