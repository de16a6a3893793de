"""Tests of the promises of the file loggers: torn lines, resumed runs, full disks and several writers."""

import errno
import os
import pickle
import signal
import subprocess
import sys

import pytest

from glowplug import Engine, Events
from glowplug.loggers import OutputHandler
from glowplug_jsonl import CsvLogger, JsonLinesLogger
from glowplug_jsonl.line_file import LineFile

KINDS = {"jsonl": JsonLinesLogger, "csv": CsvLogger}


@pytest.fixture(params=KINDS)
def path(request, tmp_path):
    """Return the path of a JSON Lines or CSV file."""
    return tmp_path / f"run.{request.param}"


def make(path, **options):
    """Create the logger for a file."""
    return KINDS[path.suffix[1:]](path, **options)


@pytest.mark.parametrize("cut", [1, 5, 15])
def test_torn_line(path, scalars_of, cut, caplog):
    """What a kill has left of a line is removed; a whole JSON line without its line break is kept."""
    with make(path) as logger:
        for step in range(3):
            logger.log_scalars({"loss": 0.5}, step, 1000.5)
    whole = path.read_bytes()
    end = whole.rindex(b'{"kind": "end"') if path.suffix == ".jsonl" else len(whole)
    path.write_bytes(whole[: end - cut])
    kept = 3 if path.suffix == ".jsonl" and cut == 1 else 2
    with make(path) as logger:
        logger.log_scalars({"loss": 0.5}, 3)
    assert [step for _, step, _ in scalars_of(path)] == [*range(kept), 3]
    assert ("was incomplete and was removed" in caplog.text) == (kept == 2)


def test_a_long_torn_line(tmp_path):
    """A torn line of several blocks is removed, and a file that consists of it becomes empty."""
    path = tmp_path / "lines"
    for before in (b"", b"whole\n"):
        path.write_bytes(before + b"x" * 200_000)
        LineFile(path).close()
        assert path.read_bytes() == before


def test_a_file_of_another_program(tmp_path, caplog):
    """A text without line break that is no JSON is not removed."""
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    with JsonLinesLogger(path, timeout=0.5) as logger:
        logger.log_scalars({"loss": 0.5}, 1)
    assert path.read_text() == "my notes"
    assert "choose another path" in caplog.text


def test_resume_without_a_path(tmp_path, scalars_of, monkeypatch):
    """A logger without a path writes to a new file in runs, and continues the file of the loaded state after os.chdir()."""
    monkeypatch.chdir(tmp_path)
    states = []

    def train(steps, load=None):
        trainer = Engine(lambda engine, batch: batch)
        with JsonLinesLogger() as logger:
            handler = OutputHandler("training", output_transform=lambda loss: {"loss": loss})
            logger.attach(trainer, Events.ITERATION_COMPLETED, handler)
            trainer.add_event_handler(
                Events.ITERATION_COMPLETED(once=2), lambda engine: states.append(engine.state_dict())
            )
            if load is not None:
                trainer.load_state_dict(load)
            trainer.run(range(steps), max_epochs=1)
            return logger.path

    first = train(4)
    assert first.parent == tmp_path / "runs"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert train(4, pickle.loads(pickle.dumps(states[0]))) == first
    assert [step for _, step, _ in scalars_of(first)] == [1, 2, 3, 4]


def test_relative_path(tmp_path, monkeypatch, path, scalars_of):
    """A relative path stays valid after os.chdir()."""
    monkeypatch.chdir(tmp_path)
    logger = make(type(path)(path.name))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    logger.log_scalars({"loss": 0.5}, 1)
    logger.close()
    assert len(scalars_of(path)) == 1


def test_disk_that_fills_in_a_write(path, scalars_of, monkeypatch):
    """If a write stores a part of a batch only, the part is removed and all records are written later, once."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    logger = make(path, timeout=20)
    try:
        logger.log_scalars({"loss": 0.5}, 0, 1000.0)
        assert logger.flush()
        whole = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 30, hard))
        for step in range(1, 20):
            logger.log_scalars({"loss": 0.5}, step, 1000.0)
        assert not logger.flush(1.0)
        assert path.read_bytes() == whole
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    logger.close()
    assert [step for _, step, _ in scalars_of(path)] == list(range(20))


def test_deleted_file(path, scalars_of):
    """If the file is deleted during the run, the next records are written to a new file."""
    with make(path, timeout=20) as logger:
        logger.log_scalars({"loss": 0.5}, 1)
        assert logger.flush()
        path.unlink()
        logger.log_scalars({"loss": 0.5}, 2)
        logger.flush(0.5)
        assert logger.flush()
    assert [step for _, step, _ in scalars_of(path)] == [2]


def test_errors_of_one_record(tmp_path, monkeypatch):
    """An error that concerns one file name drops the record; a full disk does not."""
    from glowplug_jsonl import media

    logger = JsonLinesLogger(tmp_path / "run.jsonl", timeout=20)
    (tmp_path / "file").write_text("content")
    number = errno.ENAMETOOLONG

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(media.shutil, "copy2", fail)
    logger.open_backend()
    with pytest.raises(OSError, match="too long") as caught:
        logger.write_artifact(str(tmp_path / "file"), None)
    assert not isinstance(caught.value, ConnectionError)
    number = errno.ENOSPC
    with pytest.raises(ConnectionError):
        logger.write_artifact(str(tmp_path / "file"), None)
    with pytest.raises(FileNotFoundError):
        logger.write_artifact(str(tmp_path / "missing"), None)
    assert list(tmp_path.rglob("*.part")) == []
    logger.close_backend(None)
    logger.close()


def test_two_processes_write_one_file(path, scalars_of):
    """Lines of two processes that append to one file at the same time stay whole."""
    script = f"""
import sys
from glowplug_jsonl import CsvLogger, JsonLinesLogger
logger = {KINDS[path.suffix[1:]].__name__}({str(path)!r}, timeout=30)
for step in range(2000):
    logger.log_scalars({{sys.argv[1]: 0.5}}, step)
logger.close()
"""
    processes = [subprocess.Popen([sys.executable, "-c", script, name]) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    rows = scalars_of(path)
    for name in "ab":
        assert [step for each, step, _ in rows if each == name] == list(range(2000))
