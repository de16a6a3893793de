"""Tests of the folders of event files: names that are refused, ranks and failed creations."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from glowplug.loggers import Counts
from glowplug_tensorboard import TensorboardLogger, event_file


def runs(folder):
    """Read the scalars of a folder and its subfolders, by run and tag."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    return {
        run: {tag: [(e.step, e.value) for e in multiplexer.Scalars(run, tag)] for tag in tags["scalars"]}
        for run, tags in multiplexer.Runs().items()
    }


@pytest.mark.parametrize("name", ["x" * 300, "taken", "taken/below"])
def test_a_folder_that_cannot_exist(tmp_path, caplog, name):
    """A trial whose folder cannot be created is dropped and reported; later records are written."""
    (tmp_path / "taken").touch()
    with TensorboardLogger(tmp_path) as logger:
        logger.writer.add_hparams({"lr": 0.1}, {"accuracy": 0.75}, run_name=name)
        logger.log_scalars({"loss": 0.5}, 1)
        assert logger.flush(10)
        assert logger.counts == Counts(sent=1, dropped=4, pending=0)
    assert f"ValueError: the folder {name!r} cannot be created" in caplog.text
    assert runs(tmp_path) == {".": {"loss": [(1, 0.5)]}}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_outside(tmp_path, caplog):
    """Events for a folder outside log_dir are dropped and reported; an absolute path inside is accepted."""
    folder = tmp_path / "logs"
    with TensorboardLogger(folder) as logger:
        logger.writer.add_scalars("m", {"/../../x": 1.0}, 1)
        logger.writer.add_hparams({}, {"accuracy": 0.75}, run_name=str(tmp_path / "trial"))
        logger.writer.add_hparams({}, {"accuracy": 0.75}, run_name=str(folder))
        assert logger.flush(10)
        assert logger.counts == Counts(sent=4, dropped=5, pending=0)
    assert f"ValueError: the folder 'm_/../../x' is outside {folder}" in caplog.text
    assert list(tmp_path.iterdir()) == [folder]
    assert runs(folder) == {".": {"accuracy": [(0, 0.75)]}}
    assert len(list(folder.iterdir())) == 1


def test_a_folder_while_log_dir_is_missing(tmp_path):
    """While log_dir cannot be used, an event for a subfolder waits."""
    folder = tmp_path / "logs"
    with TensorboardLogger(folder, timeout=20) as logger:
        logger.log_scalars({"loss": 0.5}, 1)
        assert logger.flush()
        moved = folder.rename(tmp_path / "moved")
        folder.touch()
        logger.writer.add_scalars("both", {"a": 1.0}, 1)
        assert not logger.flush(1.0)
        folder.unlink()
        moved.rename(folder)
        assert logger.flush()
    assert runs(folder) == {".": {"loss": [(1, 0.5)]}, "both_a": {"both": [(1, 1.0)]}}


def test_ranks_write_to_separate_folders(tmp_path, monkeypatch):
    """With all_ranks, ranks other than 0 write to a subfolder, and need a log_dir that all ranks share."""
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        with TensorboardLogger(tmp_path, all_ranks=True) as logger:
            logger.log_scalars({"loss": float(rank)}, 1)
            logger.writer.add_scalars("both", {"a": 1.0}, 1)
            state = logger.state_dict()
    assert state["run"] == {"log_dir": str(tmp_path)}
    assert runs(tmp_path) == {
        ".": {"loss": [(1, 0.0)]},
        "both_a": {"both": [(1, 1.0)]},
        "rank1": {"loss": [(1, 1.0)]},
        "rank1/both_a": {"both": [(1, 1.0)]},
    }
    with TensorboardLogger(tmp_path, all_ranks=True) as logger:
        logger.load_state_dict(state)
        logger.log_scalars({"loss": 1.0}, 1)
        logger.log_scalars({"loss": 2.0}, 2)
    assert runs(tmp_path)["rank1"] == {"loss": [(1, 1.0), (2, 2.0)]}
    with pytest.raises(ValueError, match="TensorboardLogger: all_ranks=True needs log_dir="):
        TensorboardLogger(all_ranks=True)


def test_killed_process(tmp_path):
    """An event of the writer that has a step is on disk before the end of the run, also without any other record."""
    script = """
import os, signal, sys, time
from glowplug_tensorboard import TensorboardLogger
logger = TensorboardLogger(sys.argv[1])
logger.writer.add_scalars("both", {"a": 1.0}, 1)
limit = time.monotonic() + 20
while logger.counts.pending and time.monotonic() < limit:
    time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -9, ended.stderr
    assert runs(tmp_path)["both_a"] == {"both": [(1, 1.0)]}


def test_failed_creation(tmp_path):
    """If the disk is full when a file is created, no empty file stays behind."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        with pytest.raises(OSError, match="File too large"):
            event_file.EventFile(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


def test_local_files_without_tensorflow(tmp_path, monkeypatch):
    """Local files are written by this package, because TensorFlow, where it is installed, would buffer the events."""
    monkeypatch.setattr(event_file, "tf", SimpleNamespace())
    with TensorboardLogger(tmp_path) as logger:
        logger.log_scalars({"loss": 0.5}, 1)
    assert runs(tmp_path) == {".": {"loss": [(1, 0.5)]}}
