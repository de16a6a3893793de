"""The command ``glowplug spool``: records that wait on disk are listed, shown, delivered and deleted."""

import json
import subprocess
import sys
from contextlib import closing

import pytest
from click.testing import CliRunner

from glowplug import Engine, Events, RunOutcome, cli
from glowplug.loggers import Logger, Spool, read_content, spools_in

MODULE = """
from pathlib import Path
from glowplug.loggers import Logger

class FileLogger(Logger):
    is_down = False

    def __init__(self, path, password="", **options):
        super().__init__(**options)
        self.path, self.password = path, password

    def close_backend(self, outcome):
        if self.is_down:
            raise ConnectionError(f"{self.path} is down")
        with open(self.path, "a") as file:
            file.write(f"ended as {outcome}\\n")

    def run_info(self):
        return {"run": "seven"}

    def replay_options(self):
        return {"path": self.path}

    def open_backend(self):
        if not Path(self.path).parent.exists():
            raise ConnectionError(f"{self.path} is down")

    def write_scalars(self, scalars, step, timestamp):
        if scalars.get("loss") == 13:
            raise ValueError("unlucky")
        with open(self.path, "a") as file:
            file.write(f"{step} {self.password}\\n")

class Private(FileLogger):
    def replay_options(self):
        return None
"""


@pytest.fixture
def backend(tmp_path, monkeypatch):
    """Return the path of a backend that is down, and make its logger importable."""
    (tmp_path / "file_logger.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "file_logger", raising=False)
    return tmp_path / "server" / "log"


@pytest.fixture
def leave(backend):
    """Log records with a backend that is down; the spool stays."""

    def leave(*values, cls="FileLogger"):
        import file_logger

        logger = getattr(file_logger, cls)(str(backend), timeout=0.5)
        for step, value in enumerate(values, 1):
            logger.log_scalars({"loss": value}, step)
        logger.close()
        assert logger.counts.pending == len(values)
        return logger

    return leave


def invoke(*arguments, **options):
    """Run ``glowplug spool``."""
    return CliRunner().invoke(cli.main, ["spool", *map(str, arguments)], **options)


def only_name(state_folder):
    """Return the name of the only spool."""
    (path,) = spools_in(state_folder / "spool")
    return path.stem


class TestList:
    def test_waiting_records(self, leave, state_folder):
        """It lists each spool with its logger, run and number of records."""
        leave(1.0, 2.0)
        (_, line) = invoke("list").output.splitlines()
        assert line.split()[:4] == [only_name(state_folder), "FileLogger", "seven", "2"]
        assert line.endswith("waiting")

    def test_none(self, state_folder):
        """Without spools, it names the folder."""
        assert invoke("list").output == f"No records wait in {state_folder / 'spool'}.\n"
        assert invoke("list", "--all").output == f"There are no spools in {state_folder / 'spool'}.\n"

    def test_delivered(self, leave, backend, state_folder):
        """Spools of delivered runs are listed with --all only, and replaying one says that nothing waits."""
        leave(1.0)
        backend.parent.mkdir()
        invoke("replay")
        name = only_name(state_folder)
        assert invoke("list").output.startswith("No records wait")
        assert invoke("list", "--all").output.splitlines()[1].split() == [
            *(name, "FileLogger", "seven", "0", "0", "delivered")
        ]
        assert invoke("replay").output == ""
        assert invoke("replay", name).output == f"{name}: nothing waits\n"

    def test_used_and_unreadable(self, state_folder):
        """A spool of a running process and a damaged file are listed as such."""
        folder = state_folder / "spool"
        with closing(Spool(folder / "a.spool")):
            (folder / "b.spool").write_text("x" * 5_000)
            lines = invoke("list").output.splitlines()
        assert lines[1].split() == ["a", "in", "use"]
        assert "unreadable: " in lines[2]


class TestShow:
    def test_records(self, leave, state_folder):
        """It shows what the spool says about itself and its first records."""
        leave(1.0, 2.0, 3.0)
        output = invoke("show", only_name(state_folder), "--most", 2).output
        assert "run: {" in output
        assert "records: 3" in output
        assert output.splitlines()[-2:] == [
            "1 scalars step 1 {'loss': 1.0}",
            "2 scalars step 2 {'loss': 2.0}",
        ]

    def test_unknown_name(self, leave, state_folder):
        """An unknown name is answered with the closest one."""
        leave(1.0)
        name = only_name(state_folder)
        ended = invoke("show", name[:-1])
        assert ended.exit_code == 2
        assert f"Did you mean {name}?" in ended.output


class TestReplay:
    def test_delivered(self, leave, backend, state_folder):
        """It creates the logger again, delivers the records in order, and ends the run."""
        leave(1.0, 2.0, 3.0)
        backend.parent.mkdir()
        ended = invoke("replay")
        assert (ended.exit_code, ended.output) == (0, f"{ended.output.split(':')[0]}: 3 records delivered\n")
        assert backend.read_text() == "1 \n2 \n3 \nended as None\n"
        assert not read_content(spools_in(state_folder / "spool")[0]).is_waiting

    def test_still_down(self, leave, state_folder):
        """A backend that is down is reported with exit code 1, and the records stay."""
        leave(1.0)
        ended = invoke("replay", "--timeout", 0.5)
        assert ended.exit_code == 1
        assert "could not be opened" in ended.output
        with closing(Spool(spools_in(state_folder / "spool")[0])) as spool:
            assert spool.pending == 1

    def test_refused_record(self, leave, backend):
        """A record that the backend refuses is counted, and the others are delivered."""
        leave(1.0, 13.0, 3.0)
        backend.parent.mkdir()
        ended = invoke("replay")
        assert ended.exit_code == 1
        assert "2 records delivered, 1 refused, 0 still wait" in ended.output

    def test_end_of_a_run(self, backend, state_folder, monkeypatch):
        """A run whose server died before close() is listed, and ended with its own outcome."""
        import file_logger

        backend.parent.mkdir()
        logger = file_logger.FileLogger(str(backend), timeout=5)
        logger.log_scalars({"loss": 1.0}, 1)
        logger.flush()
        monkeypatch.setattr(file_logger.FileLogger, "is_down", True)
        logger.close(RunOutcome.FAILED)
        name = only_name(state_folder)
        assert invoke("list").output.splitlines()[1].endswith("run not ended")
        ended = invoke("replay")
        assert (ended.exit_code, ended.output) == (
            1,
            f"{name}: 0 records delivered, but the run could not be ended in the backend; try again later\n",
        )
        monkeypatch.setattr(file_logger.FileLogger, "is_down", False)
        assert invoke("replay").output == f"{name}: the run was ended as failed\n"
        assert backend.read_text() == "1 \nended as RunOutcome.FAILED\n"

    def test_options(self, leave, backend):
        """A secret that the spool does not contain is given as an option."""
        leave(1.0)
        backend.parent.mkdir()
        assert invoke("replay", "--option", "password=hunter2").exit_code == 0
        assert backend.read_text().startswith("1 hunter2\n")
        assert "'password' is not NAME=VALUE" in invoke("replay", "--option", "password").output

    def test_logger_that_cannot_be_created(self, leave, state_folder):
        """A logger without replay_options stays in its spool, with advice."""
        leave(1.0, cls="Private")
        ended = invoke("replay", only_name(state_folder))
        assert ended.exit_code == 1
        assert "implement replay_options()" in ended.output


def test_interrupted_replay(backend):
    """A process that only delivers what an earlier one left does not change the outcome of the run when it is interrupted."""
    import file_logger

    trainer = Engine(lambda engine, batch: float(batch))
    first = file_logger.FileLogger(str(backend), timeout=0.5)
    first.attach_output_handler(trainer, Events.ITERATION_COMPLETED, tag="", output_transform=lambda x: x)
    trainer.run([1, 2])
    first.close()
    backend.parent.mkdir()
    second = file_logger.FileLogger(str(backend), timeout=20)
    second.load_state_dict(trainer.state_dict()["handlers"]["FileLogger"])
    assert second.flush()
    second.close(RunOutcome.INTERRUPTED)
    assert backend.read_text().splitlines() == ["1 ", "2 ", "ended as RunOutcome.COMPLETED"]


class TestDiscard:
    def test_confirmed(self, leave, state_folder):
        """It deletes a spool after a confirmation, and nothing without one."""
        leave(1.0)
        name = only_name(state_folder)
        assert invoke("discard", name, input="n\n").exit_code == 1
        assert only_name(state_folder) == name
        assert invoke("discard", name, "--yes").output == f"{name}: 1 record deleted\n"
        assert not list((state_folder / "spool").iterdir())

    def test_unreadable_and_used(self, state_folder):
        """It deletes a damaged file, but not the spool of a running process."""
        folder = state_folder / "spool"
        with closing(Spool(folder / "a.spool")):
            (folder / "b.spool").write_text("x" * 5_000)
            assert invoke("discard", "b", "--yes").output.startswith("b: deleted without reading it: ")
            refused = invoke("discard", "a", "--yes")
            assert (refused.exit_code, "another process uses" in refused.output) == (2, True)
            assert (folder / "a.spool").exists()
        assert not (folder / "b.spool").exists()


def test_without_torch(state_folder):
    """The command lists spools without importing torch."""
    script = "import sys; from glowplug.cli import main; main(['spool', 'list'], standalone_mode=False); print('torch' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.splitlines()[-1] == "False"


def test_secrets_are_not_saved(leave, state_folder):
    """Only replay_options and run_info are saved with the records."""
    assert isinstance(leave(1.0), Logger)
    with closing(Spool(spools_in(state_folder / "spool")[0])) as spool:
        assert set(spool.about) == {"format", "logger", "run", "options", "host", "process", "outcome"}
        assert set(json.loads(spool.about["options"])) == {"path"}
