"""Tests of DiskSaver: files, order of operations, failures."""

import errno
import multiprocessing
import os
import stat
import sys
from pathlib import Path

import pytest
import torch

from glowplug import Events
from glowplug.typing import SaveHandler
from glowplug_model_checkpoint import Checkpoint, DiskSaver, ModelCheckpoint, publishing, storage

STATE = {"weight": torch.arange(4.0)}


class Bytes:
    """Has a state of a given size."""

    def __init__(self, size=1000):
        self.size = size

    def state_dict(self):
        return {"content": torch.zeros(self.size, dtype=torch.uint8)}


class Unpicklable:
    """Has a state that cannot be saved."""

    def state_dict(self):
        return {"function": lambda: None}


def contents(folder):
    """Return the bytes of each file."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def calls(monkeypatch):
    """Record the operations on files and folders in order."""
    log = []

    def recorded(owner, name, describe):
        original = getattr(owner, name)

        def call(*arguments, **kwargs):
            log.append(describe(*arguments))
            return original(*arguments, **kwargs)

        monkeypatch.setattr(owner, name, call)

    def synced(descriptor):
        kind = "fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file"
        return f"{kind} of {os.fstat(descriptor).st_size} bytes" if kind == "fsync file" else kind

    recorded(torch, "save", lambda *_: "write")
    recorded(os, "fsync", synced)
    recorded(Path, "replace", lambda old, new: f"rename to {Path(new).name}")
    recorded(Path, "unlink", lambda path, *_: f"unlink {path.name}")
    return log


class TestSaveOrder:
    def test_order(self, fake, tmp_path, calls):
        """The order is write, sync file, rename, sync folder, remove the old file (C1)."""
        checkpoint = Checkpoint({"model": Bytes()}, tmp_path)
        for iteration in (1, 2):
            calls.clear()
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=iteration))
        size = (tmp_path / "model_2.pt").stat().st_size
        assert calls == [
            "write",
            f"fsync file of {size} bytes",
            "rename to model_2.pt",
            "fsync folder",
            "unlink model_1.pt",
        ]

    def test_recorded_after_the_folder_is_synced(self, fake, tmp_path, monkeypatch):
        """The new file is recorded after the folder is synced and before the old file is removed (C1)."""
        checkpoint = Checkpoint({"model": Bytes()}, tmp_path)
        checkpoint(fake)
        seen = []
        sync, remove = storage.sync_directory, DiskSaver.remove

        def note(function):
            return lambda *arguments: (
                seen.append([item.filename for item in checkpoint.saved]),
                function(*arguments),
            )

        monkeypatch.setattr(storage, "sync_directory", note(sync))
        monkeypatch.setattr(DiskSaver, "remove", note(remove))
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=7))
        assert seen == [["model_6.pt"], ["model_6.pt", "model_7.pt"]]


def fault_at(monkeypatch, where, code):
    """Make one operation of a save fail with an OSError; return the list of failures."""
    hits = []

    def fail(*arguments, **kwargs):
        hits.append(where)
        raise OSError(code, os.strerror(code))

    if where == "write":

        class Failing:
            """A file that fails after 300 bytes."""

            def __init__(self, file):
                self.file, self.room = file, 300
                self.name = file.name

            def write(self, content):
                self.room -= len(content)
                return fail() if self.room < 0 else self.file.write(content)

            def __getattr__(self, name):
                return getattr(self.file, name)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self.file.close()

        create = publishing.create
        monkeypatch.setattr(storage, "create", lambda dirname: Failing(create(dirname)))
    elif where == "open":
        monkeypatch.setattr(storage, "create", fail)
    elif where in {"fsync file", "fsync folder"}:
        fsync = os.fsync
        is_folder = where == "fsync folder"
        monkeypatch.setattr(
            os,
            "fsync",
            lambda fd: fail() if stat.S_ISDIR(os.fstat(fd).st_mode) == is_folder else fsync(fd),
        )
    elif where == "rename":
        monkeypatch.setattr(Path, "replace", fail)
    return hits


FAULTS = [
    (where, code)
    for where in ("open", "write", "fsync file", "rename", "fsync folder")
    for code in (errno.ENOSPC, errno.EIO, errno.EDQUOT)
]


class TestSaveFaults:
    @pytest.mark.parametrize("n_saved", [1, 2, None])
    @pytest.mark.parametrize(("where", "code"), FAULTS)
    def test_injected_faults(self, fake, tmp_path, monkeypatch, where, code, n_saved):
        """A save that fails at any operation leaves older files unchanged, no new file and a correct list (C2)."""
        checkpoint = Checkpoint({"model": Bytes()}, tmp_path, n_saved=n_saved)
        for iteration in (1, 2):
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=iteration))
        before, saved = contents(tmp_path), checkpoint.saved
        with monkeypatch.context() as patch:
            hits = fault_at(patch, where, code)
            with pytest.raises(OSError, match=os.strerror(code)) as raised:
                checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=3))
        assert hits
        assert raised.value.errno == code
        assert contents(tmp_path) == before
        assert checkpoint.saved == saved
        assert {item.filename for item in saved} == set(before)
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=4))
        assert (tmp_path / "model_4.pt").is_file()

    @pytest.mark.parametrize("n_saved", [1, 2, None])
    @pytest.mark.parametrize("with_self", [False, True])
    def test_unpicklable_state(self, fake, tmp_path, n_saved, with_self):
        """A state that cannot be pickled raises an error and changes neither files nor list (C2)."""
        checkpoint = ModelCheckpoint(tmp_path, n_saved=n_saved, include_self=with_self)
        checkpoint(fake, {"model": Bytes()})
        before, saved = contents(tmp_path), checkpoint.saved
        with pytest.raises(Exception, match="pickle"):
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=7), {"model": Unpicklable()})
        assert contents(tmp_path) == before
        assert checkpoint.saved == saved

    def test_error_names_the_file(self, tmp_path, monkeypatch):
        """The error of a full disk contains the path of the checkpoint (C2)."""
        saver = DiskSaver(tmp_path)
        fault_at(monkeypatch, "write", errno.ENOSPC)
        with pytest.raises(OSError, match=r"No space left on device: '.*model_1\.pt'"):
            saver(STATE, "model_1.pt")

    @pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
    def test_file_size_limit(self, tmp_path):
        """A file that exceeds the process's size limit raises the system's error and leaves nothing (C2)."""
        script = """
import resource, signal, sys, torch
from glowplug_model_checkpoint import DiskSaver
saver = DiskSaver(sys.argv[1])
saver({"weight": torch.zeros(10)}, "model_1.pt")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    saver({"weight": torch.zeros(1_000_000)}, "model_2.pt")
except OSError as error:
    print(error.errno)
"""
        import subprocess

        result = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.stdout.split() == [str(errno.EFBIG)], result.stderr
        assert list(contents(tmp_path)) == ["model_1.pt"]

    def test_interrupt(self, tmp_path, monkeypatch):
        """Ctrl-C during a save removes the temporary file and is raised (C2)."""
        saver = DiskSaver(tmp_path)

        def interrupt(descriptor):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            saver(STATE, "model_1.pt")
        assert contents(tmp_path) == {}

    def test_unsafe_types_are_refused(self, fake, tmp_path):
        """A state that weights_only loading refuses raises an error at the save and keeps the older file (S1)."""
        checkpoint = ModelCheckpoint(tmp_path)
        checkpoint(fake, {"model": Bytes()})

        class Scalar:
            def state_dict(self):
                return {"path": Path("x")}

        with pytest.raises(
            ValueError,
            match=r"'model_7\.pt' was not saved because it contains types that torch\.load.* refuses: pathlib\.",
        ):
            checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=7), {"model": Scalar()})
        assert list(contents(tmp_path)) == ["model_6.pt"]
        with torch.serialization.safe_globals([type(Path("x"))]):
            checkpoint(fake, {"model": Scalar()})
        assert list(contents(tmp_path)) == ["model_7.pt"]


def test_arguments(tmp_path, monkeypatch):
    """Folders are created or required, ``~`` is expanded, and other arguments reach torch.save (H-041)."""
    with pytest.raises(ValueError, match=r"folder .* does not exist"):
        DiskSaver(tmp_path / "a", create_dir=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    saver = DiskSaver("~/a/b", _use_new_zipfile_serialization=False)
    assert saver.dirname == tmp_path / "a" / "b"
    saver(STATE, "old.pt")
    assert not (tmp_path / "a" / "b" / "old.pt").read_bytes().startswith(b"PK")
    assert torch.load(saver.locate("old.pt"), weights_only=True)["weight"].tolist() == [0, 1, 2, 3]


def test_require_empty_considers_the_prefix(tmp_path):
    """require_empty refuses only checkpoints with the same prefix (H-042)."""
    for name in ("best_model_1.pt", "notes.txt"):
        (tmp_path / name).touch()
    DiskSaver(tmp_path, filename_prefix="latest")
    DiskSaver(tmp_path, filename_prefix="bes")
    DiskSaver(tmp_path, require_empty=False)
    for prefix in ("", "best"):
        with pytest.raises(ValueError, match=r"best_model_1\.pt.*require_empty=False"):
            DiskSaver(tmp_path, filename_prefix=prefix)
    ModelCheckpoint(tmp_path, "latest")
    with pytest.raises(ValueError, match="already contains checkpoints"):
        ModelCheckpoint(tmp_path, "best")
    with pytest.raises(ValueError, match="already contains checkpoints"):
        ModelCheckpoint(tmp_path, "latest", filename_pattern="{name}_{global_step}.{ext}")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_mode_follows_the_umask(tmp_path, mask, mode):
    """Files get the mode of any other new file, so a private umask stays private (H-043)."""
    former = os.umask(mask)
    try:
        DiskSaver(tmp_path)(STATE, "model_1.pt")
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "model_1.pt").stat().st_mode) == mode


def test_not_atomic(tmp_path, calls):
    """atomic=False creates no temporary file, and a failed save removes the incomplete file (H-043)."""
    saver = DiskSaver(tmp_path, atomic=False)
    saver(STATE, "model_1.pt")
    assert [call.split()[0] for call in calls] == ["write", "fsync", "fsync"]
    with pytest.raises(Exception, match="pickle"):
        saver({"function": lambda: None}, "model_2.pt")
    assert list(contents(tmp_path)) == ["model_1.pt"]


def test_remove_missing_file(tmp_path):
    """Removing a file that does not exist does nothing (H-045)."""
    DiskSaver(tmp_path).remove("model_1.pt")


class TestTemporaries:
    def test_leftovers_are_removed(self, tmp_path):
        """A new DiskSaver removes the temporary files of killed processes and no other files (C1)."""
        stale = tmp_path / ".glowplug-0123456789abcdef.tmp"
        others = [".glowplug-notours.tmp", "x.tmp", ".0123456789abcdef.tmp", "model_1.pt"]
        for name in (stale.name, *others):
            (tmp_path / name).write_bytes(b"half")
        DiskSaver(tmp_path, require_empty=False)
        assert sorted(contents(tmp_path)) == sorted(others)

    def test_files_in_use_are_not_removed(self, tmp_path):
        """A sweep by another process does not remove a temporary file that is being written (C1)."""
        with publishing.create(tmp_path) as file:
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=publishing.sweep, args=(tmp_path,))
            process.start()
            process.join(60)
            assert process.exitcode == 0
            assert Path(file.name).exists()
        publishing.sweep(tmp_path)
        assert not Path(file.name).exists()

    def test_file_swept_before_its_lock_is_replaced(self, tmp_path, monkeypatch):
        """If a sweep removes the file between creation and lock, another file is created (C1)."""
        if sys.platform == "win32":
            pytest.skip("Windows has no file locks")
        import fcntl

        flock, first = fcntl.flock, []

        def sweep_first(file, operation):
            if not first:
                first.append(file.name)
                Path(file.name).unlink()
            flock(file, operation)

        monkeypatch.setattr(fcntl, "flock", sweep_first)
        with publishing.create(tmp_path) as file:
            assert file.name != first[0]
            assert Path(file.name).exists()


def test_folder_that_cannot_be_synced(tmp_path, monkeypatch):
    """A save succeeds on a file system that cannot sync folders."""
    fault_at(monkeypatch, "fsync folder", errno.EINVAL)
    DiskSaver(tmp_path)(STATE, "model_1.pt")
    assert list(contents(tmp_path)) == ["model_1.pt"]


class OverridesCall(DiskSaver):
    """Overrides the method that ignite calls."""

    def __call__(self, checkpoint, filename, metadata=None):
        super().__call__({**checkpoint, "by": "call"}, filename, metadata)


class OverridesSave(DiskSaver):
    """Overrides the method of the save-handler protocol."""

    def save(self, checkpoint, filename, metadata=None):
        super().save({**checkpoint, "by": "save"}, filename, metadata)


class OverridesCallOfSave(OverridesSave):
    """Overrides ``__call__`` in a subclass of a class that overrides ``save``."""

    def __call__(self, checkpoint, filename, metadata=None):
        super().__call__({**checkpoint, "first": "call"}, filename, metadata)


class TestSubclasses:
    @pytest.mark.parametrize(
        ("saver", "added"),
        [
            (DiskSaver, {}),
            (OverridesCall, {"by": "call"}),
            (OverridesSave, {"by": "save"}),
            (OverridesCallOfSave, {"by": "save", "first": "call"}),
        ],
    )
    def test_overridden_method_is_called(self, fake, tmp_path, saver, added):
        """A checkpoint calls the method that a subclass of DiskSaver overrides, whether ``save`` or ``__call__``."""
        checkpoint = Checkpoint({"model": Bytes(2)}, saver(tmp_path))
        checkpoint(fake)
        content = torch.load(checkpoint.last_checkpoint, weights_only=True)
        assert content.pop("content").tolist() == [0, 0]
        assert content == added


def test_list_and_load(tmp_path):
    """Checkpoints are listed from oldest to newest and load; temporary files and folders are not listed."""
    saver = DiskSaver(tmp_path)
    assert isinstance(saver, SaveHandler)
    for number, name in enumerate(("b.pt", "a.pt")):
        saver.save({"number": number}, name)
        os.utime(tmp_path / name, ns=(number, number))
    (tmp_path / "folder").mkdir()
    (tmp_path / ".glowplug-0123456789abcdef.tmp").touch()
    assert saver.list() == ["b.pt", "a.pt"]
    assert saver.load("a.pt") == {"number": 1}
    with pytest.raises(FileNotFoundError):
        saver.load("c.pt")
    with pytest.raises(ValueError, match="part of a file name"):
        saver.load("../a.pt")


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ({"mode": "min"}, "get_default_score_fn"),
        ({"save_interval": 1}, r"attach\(engine, Events\.ITERATION_COMPLETED\(every=n\)\)"),
        ({"n_save": 2}, "did you mean 'n_saved'"),
        ({"pickle_protocoll": 4}, "did you mean 'pickle_protocol'"),
        ({"wholly_unknown": 4}, "its options are .*score_function, "),
    ],
)
def test_unknown_options_are_refused(tmp_path, option, advice):
    """An unknown option raises an error with the closest name or a remedy, and creates no folder."""
    with pytest.raises(TypeError, match=f"ModelCheckpoint has no option '{next(iter(option))}'; .*{advice}"):
        ModelCheckpoint(tmp_path / "new", **option)
    with pytest.raises(TypeError, match=f"DiskSaver has no option '{next(iter(option))}'"):
        DiskSaver(tmp_path / "new", **option)
    assert not (tmp_path / "new").exists()
