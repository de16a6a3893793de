"""`glowplug new`: validation of its arguments; tests/workspace checks the projects it creates."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from glowplug import cli
from glowplug.cli._new import create_project


def call(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(cli.main, ["new", *map(str, arguments)])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Acme CSV", "as in acme-csv"),
        ("AcmeCsv_Logger", "as in acme-csv-logger"),
        ("acme--csv", "as in acme-csv"),
        ("csv", "as in acme-csv"),
        ("3d-csv", "as in acme-csv"),
        ("../acme-csv", "as in acme-csv"),
        ("acme-" + "x" * 50, "at most 50 characters"),
        ("glowplug-csv", "as in acme-glowplug-csv"),
        ("acme-glowplug", "as in acme-glowplug-csv"),
    ],
)
def test_invalid_name(tmp_path, name, told):
    """An invalid name is a usage error that shows a valid one, and nothing is written."""
    ended = call("logger", name, "--directory", tmp_path)
    assert ended.exit_code == 2, ended.output
    assert repr(name) in ended.output
    assert told in ended.output
    assert list(tmp_path.iterdir()) == []


def test_copier_is_missing(tmp_path, monkeypatch):
    """Without copier the command shows how to install it, and writes nothing."""
    monkeypatch.setitem(sys.modules, "copier", None)
    ended = call("logger", "acme-csv", "--directory", tmp_path)
    assert ended.exit_code == 1
    assert 'pip install "glowplug[new]"' in ended.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_the_way", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_existing_path(tmp_path, in_the_way):
    """An existing file or folder, even an empty one, is left unchanged."""
    in_the_way(tmp_path / "acme-csv")
    ended = call("logger", "acme-csv", "--directory", tmp_path)
    assert ended.exit_code == 1
    assert f"{tmp_path / 'acme-csv'} already exists; choose another" in ended.output
    assert list(tmp_path.rglob("*")) == [tmp_path / "acme-csv"]


def test_unknown_kind(tmp_path):
    """The error about an unknown kind lists the kinds, in the command and in Python."""
    assert "'logger', 'handler', 'metric'" in call("tracker", "acme-csv").output
    with pytest.raises(ValueError, match="logger, handler, metric; got 'tracker'"):
        create_project("tracker", "acme-csv", tmp_path)
