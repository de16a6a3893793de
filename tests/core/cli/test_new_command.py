"""`glowplug new`: which names it takes, and what it says when it can make nothing. What it makes is tested in tests/workspace."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from glowplug import cli
from glowplug.cli._new import create_project


def call(*arguments):
    """Call the command in this process."""
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
def test_a_name_that_cannot_be_used(tmp_path, name, told):
    """A name that is no good is wrong usage, with one that is; nothing is written."""
    ended = call("logger", name, "--directory", tmp_path)
    assert ended.exit_code == 2, ended.output
    assert repr(name) in ended.output
    assert told in ended.output
    assert list(tmp_path.iterdir()) == []


def test_without_copier(tmp_path, monkeypatch):
    """Where copier is not installed, the command says what to type to have it, and writes nothing."""
    monkeypatch.setitem(sys.modules, "copier", None)
    ended = call("logger", "acme-csv", "--directory", tmp_path)
    assert ended.exit_code == 1
    assert 'pip install "glowplug[new]"' in ended.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_the_way", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_what_is_there_stays_as_it_is(tmp_path, in_the_way):
    """A folder or a file of that name is never written to, an empty folder included."""
    in_the_way(tmp_path / "acme-csv")
    ended = call("logger", "acme-csv", "--directory", tmp_path)
    assert ended.exit_code == 1
    assert f"{tmp_path / 'acme-csv'} already exists; choose another" in ended.output
    assert list(tmp_path.rglob("*")) == [tmp_path / "acme-csv"]


def test_a_kind_that_there_is_not(tmp_path):
    """The kinds that there are stand in the error, on the command line and in Python."""
    assert "'logger', 'handler', 'metric'" in call("tracker", "acme-csv").output
    with pytest.raises(ValueError, match="logger, handler, metric; got 'tracker'"):
        create_project("tracker", "acme-csv", tmp_path)
