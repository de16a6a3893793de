"""DiskSaver: what is on the disk, in which order it came there, and what is left when something fails."""

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
from glowplug_model_checkpoint import Checkpoint, DiskSaver, ModelCheckpoint, disk_saver, temporaries

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
    """Record what is done to files and folders, in order."""
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


def test_C1_order_of_a_save(fake, tmp_path, calls):
    """Write < fsync of the whole file < rename < fsync of the folder < unlink of the old one."""
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


def test_C1_recorded_after_the_folder_is_synced(fake, tmp_path, monkeypatch):
    """While the folder is synced the new one is not recorded yet; when the old one is removed it is."""
    checkpoint = Checkpoint({"model": Bytes()}, tmp_path)
    checkpoint(fake)
    seen = []
    sync, remove = disk_saver.sync_directory, DiskSaver.remove

    def note(function):
        return lambda *arguments: (
            seen.append([item.filename for item in checkpoint.saved]),
            function(*arguments),
        )

    monkeypatch.setattr(disk_saver, "sync_directory", note(sync))
    monkeypatch.setattr(DiskSaver, "remove", note(remove))
    checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=7))
    assert seen == [["model_6.pt"], ["model_6.pt", "model_7.pt"]]


def fault_at(monkeypatch, where, code):
    """Let one operation of a save fail with an error of the operating system; return how many times it did."""
    hits = []

    def fail(*arguments, **kwargs):
        hits.append(where)
        raise OSError(code, os.strerror(code))

    if where == "write":

        class Failing:
            """A file that takes a few bytes and then no more."""

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

        create = temporaries.create
        monkeypatch.setattr(disk_saver, "create", lambda dirname: Failing(create(dirname)))
    elif where == "open":
        monkeypatch.setattr(disk_saver, "create", fail)
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


@pytest.mark.parametrize("n_saved", [1, 2, None])
@pytest.mark.parametrize(("where", "code"), FAULTS)
def test_C2_45_injected_faults_leave_all_as_it_was(fake, tmp_path, monkeypatch, where, code, n_saved):
    """A save that fails anywhere leaves the older files byte-identical, no other file, and a true list."""
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
def test_C2_unpicklable_states_leave_all_as_it_was(fake, tmp_path, n_saved, with_self):
    """A state that cannot be pickled raises, and changes neither files nor list."""
    checkpoint = ModelCheckpoint(tmp_path, n_saved=n_saved, include_self=with_self)
    checkpoint(fake, {"model": Bytes()})
    before, saved = contents(tmp_path), checkpoint.saved
    with pytest.raises(Exception, match="pickle"):
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=7), {"model": Unpicklable()})
    assert contents(tmp_path) == before
    assert checkpoint.saved == saved


def test_C2_the_file_of_the_error_is_named(tmp_path, monkeypatch):
    """The error of a full disk says which checkpoint could not be written."""
    saver = DiskSaver(tmp_path)
    fault_at(monkeypatch, "write", errno.ENOSPC)
    with pytest.raises(OSError, match=r"No space left on device: '.*model_1\.pt'"):
        saver(STATE, "model_1.pt")


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_C2_a_real_limit_of_the_system(tmp_path):
    """A file that really cannot grow, in a process of its own: the error is the system's, and nothing is left."""
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


def test_C2_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    """Ctrl-C in the middle of a save removes the temporary, and is raised."""
    saver = DiskSaver(tmp_path)

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        saver(STATE, "model_1.pt")
    assert contents(tmp_path) == {}


def test_S1_what_could_not_be_loaded_again_is_refused_at_once(fake, tmp_path):
    """A state that weights_only loading refuses is an error of the save, not of the resume days later; the rest stays."""
    checkpoint = ModelCheckpoint(tmp_path)
    checkpoint(fake, {"model": Bytes()})

    class Scalar:
        def state_dict(self):
            return {"path": Path("x")}

    with pytest.raises(ValueError, match=r"'model_7\.pt' could not be loaded again.*pathlib\."):
        checkpoint(fake.fire(Events.EPOCH_COMPLETED, iteration=7), {"model": Scalar()})
    assert list(contents(tmp_path)) == ["model_6.pt"]
    with torch.serialization.safe_globals([type(Path("x"))]):
        checkpoint(fake, {"model": Scalar()})
    assert list(contents(tmp_path)) == ["model_7.pt"]


def test_H_041_arguments(tmp_path, monkeypatch):
    """Folders are made or missed, ``~`` is expanded, and further arguments go to torch.save."""
    with pytest.raises(ValueError, match="there is no folder"):
        DiskSaver(tmp_path / "a", create_dir=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    saver = DiskSaver("~/a/b", _use_new_zipfile_serialization=False)
    assert saver.dirname == tmp_path / "a" / "b"
    saver(STATE, "old.pt")
    assert not (tmp_path / "a" / "b" / "old.pt").read_bytes().startswith(b"PK")
    assert torch.load(saver.locate("old.pt"), weights_only=True)["weight"].tolist() == [0, 1, 2, 3]


def test_H_042_require_empty_honours_the_prefix(tmp_path):
    """Only checkpoints with the same prefix are in the way; other files and prefixes are not."""
    for name in ("best_model_1.pt", "notes.txt"):
        (tmp_path / name).touch()
    DiskSaver(tmp_path, filename_prefix="latest")
    DiskSaver(tmp_path, filename_prefix="bes")
    DiskSaver(tmp_path, require_empty=False)
    for prefix in ("", "best"):
        with pytest.raises(ValueError, match=r"best_model_1\.pt.*require_empty=False"):
            DiskSaver(tmp_path, filename_prefix=prefix)
    ModelCheckpoint(tmp_path, "latest")
    with pytest.raises(ValueError, match="holds checkpoints already"):
        ModelCheckpoint(tmp_path, "best")
    with pytest.raises(ValueError, match="holds checkpoints already"):
        ModelCheckpoint(tmp_path, "latest", filename_pattern="{name}_{global_step}.{ext}")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_H_043_the_mode_follows_the_umask(tmp_path, mask, mode):
    """Files get the mode of any other new file, so that a private umask stays private."""
    former = os.umask(mask)
    try:
        DiskSaver(tmp_path)(STATE, "model_1.pt")
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "model_1.pt").stat().st_mode) == mode


def test_H_043_without_atomic_the_file_is_written_in_place(tmp_path, calls):
    """atomic=False makes no temporary; a save that fails leaves no torn file all the same."""
    saver = DiskSaver(tmp_path, atomic=False)
    saver(STATE, "model_1.pt")
    assert [call.split()[0] for call in calls] == ["write", "fsync", "fsync"]
    with pytest.raises(Exception, match="pickle"):
        saver({"function": lambda: None}, "model_2.pt")
    assert list(contents(tmp_path)) == ["model_1.pt"]


def test_H_045_removing_what_is_gone_is_no_error(tmp_path):
    """remove() is satisfied when the file is not there."""
    DiskSaver(tmp_path).remove("model_1.pt")


def test_C1_stale_temporaries_are_swept_and_nothing_else(tmp_path):
    """The next DiskSaver removes what a killed one left, but no file of another naming scheme."""
    stale = tmp_path / ".glowplug-0123456789abcdef.tmp"
    others = [".glowplug-notours.tmp", "x.tmp", ".0123456789abcdef.tmp", "model_1.pt"]
    for name in (stale.name, *others):
        (tmp_path / name).write_bytes(b"half")
    DiskSaver(tmp_path, require_empty=False)
    assert sorted(contents(tmp_path)) == sorted(others)


def test_C1_a_temporary_that_is_being_written_is_left_alone(tmp_path):
    """Another process that writes into the same folder is not disturbed by the sweep of a newcomer."""
    with temporaries.create(tmp_path) as file:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=temporaries.sweep, args=(tmp_path,))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert Path(file.name).exists()
    temporaries.sweep(tmp_path)
    assert not Path(file.name).exists()


def test_C1_a_temporary_that_is_swept_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    """In the moment between creation and lock a sweep can take the file; then another one is made."""
    if sys.platform == "win32":
        pytest.skip("no locks there")
    import fcntl

    flock, first = fcntl.flock, []

    def sweep_first(file, operation):
        if not first:
            first.append(file.name)
            Path(file.name).unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    with temporaries.create(tmp_path) as file:
        assert file.name != first[0]
        assert Path(file.name).exists()


def test_folders_that_cannot_be_synced_are_no_error(tmp_path, monkeypatch):
    """Some network file systems answer EINVAL to the fsync of a folder; the save stands."""
    fault_at(monkeypatch, "fsync folder", errno.EINVAL)
    DiskSaver(tmp_path)(STATE, "model_1.pt")
    assert list(contents(tmp_path)) == ["model_1.pt"]


def test_list_and_load(tmp_path):
    """What was saved is listed from oldest to newest and loaded; temporary files and folders are not listed."""
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
def test_unknown_options_are_refused_at_construction(tmp_path, option, advice):
    """An option that torch.save does not have raises with the closest name or a remedy, and no folder is created."""
    with pytest.raises(TypeError, match=f"ModelCheckpoint has no option '{next(iter(option))}'; .*{advice}"):
        ModelCheckpoint(tmp_path / "new", **option)
    with pytest.raises(TypeError, match=f"DiskSaver has no option '{next(iter(option))}'"):
        DiskSaver(tmp_path / "new", **option)
    assert not (tmp_path / "new").exists()
