"""Artifacts are logged as they are at the time of the call."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from glowplug.loggers import Logger, _kept_files as kept_files
from glowplug.loggers._kept_files import keep, release, size_of
from glowplug.loggers._record import Record
from glowplug.loggers._spool import Spool, delete_old


class Uploader(Logger):
    """Keep the content of the uploaded files."""

    def __init__(self, **options):
        super().__init__(**options)
        self.got = {}

    def write_scalars(self, scalars, step, timestamp): ...

    def write_artifact(self, path, name):
        path = Path(path)
        files = [path] if path.is_file() else sorted(path.iterdir())
        self.got[name] = [(file.name, file.read_text()) for file in files]


@pytest.fixture(params=["copied", "linked", "other disk"])
def size(request, monkeypatch):
    """Make a file of three bytes small or large."""
    if request.param != "copied":
        monkeypatch.setattr(kept_files, "SMALL", 2)
    if request.param == "other disk":
        link = os.link

        def refuse(source, target):
            if ".glowplug" not in str(target):
                raise OSError(18, "Invalid cross-device link")
            link(source, target)

        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("spool", [True, False])
@pytest.mark.usefixtures("size")
def test_deleted_file(tmp_path, state_folder, spool):
    """A file that is deleted after log_artifact is uploaded with its content, and nothing stays on disk."""
    file = tmp_path / "model.pt"
    file.write_text("one")
    with Uploader(spool=spool) as logger:
        logger.log_artifact(file, "checkpoints")
        file.unlink()
    assert logger.got == {"checkpoints": [("model.pt", "one")]}
    assert not [path for path in (*tmp_path.rglob("*"), *state_folder.rglob("*")) if path.is_file()]
    assert not (tmp_path / ".glowplug").exists()


def test_changed_folder(tmp_path):
    """A folder is uploaded with the files and the content that it had."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.txt").write_text("old")
    with Uploader() as logger:
        logger.log_artifact(tmp_path / "plots")
        (tmp_path / "plots" / "a.txt").write_text("new")
        (tmp_path / "plots" / "b.txt").write_text("new")
    assert logger.got == {None: [("a.txt", "old")]}


def test_missing_file(tmp_path, state_folder):
    """A missing file raises where it is logged and leaves nothing behind."""
    with Uploader() as logger, pytest.raises(FileNotFoundError, match=r"gone\.pt"):
        logger.log_artifact(tmp_path / "gone.pt")
    assert not list(state_folder.rglob("*.kept"))


def test_only_kept_files_are_released(tmp_path):
    """release() deletes what keep() made and no other file; the size is that of all files."""
    file = tmp_path / "model.pt"
    file.write_bytes(b"x" * 100)
    kept = keep(str(file), tmp_path / "files")
    assert (size_of(kept), size_of(str(tmp_path)), size_of(str(tmp_path / "no"))) == (100, 200, 0)
    release(str(file))
    release(kept)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.usefixtures("size")
def test_relative_path(tmp_path, monkeypatch):
    """A relative path, or one of the current folder, refers to the folder at the time of the call."""
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "model.pt").write_text("one")
    monkeypatch.chdir(folder)
    with Uploader() as logger:
        logger.log_artifact("model.pt", "file")
        logger.log_artifact(".", "folder")
        monkeypatch.chdir(tmp_path)
    assert logger.got == {"file": [("model.pt", "one")], "folder": [("model.pt", "one")]}


@pytest.mark.usefixtures("size")
def test_symbolic_link(tmp_path):
    """The file that a symbolic link pointed to at the time of the call is uploaded under the name of the link."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    latest = tmp_path / "latest.pt"
    latest.symlink_to(tmp_path / "one")
    with Uploader() as logger:
        logger.log_artifact(latest, "file")
        latest.unlink()
        latest.symlink_to(tmp_path / "two")
    assert logger.got == {"file": [("latest.pt", "one")]}


def test_disk_that_cannot_be_written(tmp_path, caplog):
    """If the file cannot be copied, training continues, and the file itself is uploaded."""
    (tmp_path / "home").write_text("a file where the folder should be")
    (tmp_path / "model.pt").write_text("one")
    with Uploader(spool=tmp_path / "home" / "spool") as logger:
        logger.log_artifact(tmp_path / "model.pt", "file")
    assert logger.got == {"file": [("model.pt", "one")]}
    assert "model.pt could not be copied to" in caplog.text
    assert (tmp_path / "model.pt").read_text() == "one"


def test_files_of_a_killed_process(tmp_path):
    """Old files that no spool mentions are deleted when another run begins, and all others stay."""
    (tmp_path / "model.pt").write_text("one")
    old, new, used = (Path(keep(str(tmp_path / "model.pt"), tmp_path / "files")) for _ in range(3))
    with closing(Spool(tmp_path / "run.spool")) as spool:
        spool.append([Record(0, "artifact", None, None, 0.0, str(used))])
    for file in (old, used):
        os.utime(file.parent, (0, 0))
    delete_old(tmp_path)
    assert [file.exists() for file in (old, new, used)] == [False, True, True]
