"""What remains on disk after the end of a run: the steps for a later resume, and an outcome that the backend does not have."""

import os
import time

import pytest

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import Logger, Spool, read_content, spools_in
from glowplug.loggers._spool import KEPT_DAYS, KEPT_SPOOLS, delete_old


class Store(Logger):
    """Logger with one run, whose backend may be down; it keeps points and outcomes."""

    def __init__(self, stored, **options):
        super().__init__(**options)
        self.stored = stored
        self.is_down = False
        self.run = None

    def run_info(self):
        return {"run": self.run} if self.run else {}

    def continue_run(self, info):
        self.run = info["run"]

    def open_backend(self):
        self.run = self.run or "seven"

    def write_scalars(self, scalars, step, timestamp):
        self.stored.append(step)

    def flush_backend(self):
        if self.is_down:
            raise ConnectionError("the server is gone")

    def close_backend(self, outcome):
        if self.is_down:
            raise ConnectionError("the server is gone")
        self.stored.append(outcome)


def run(logger, state=None, epochs=4):
    """Train, and return the state of the engine after each epoch."""
    trainer = Engine(lambda engine, batch: 0.5)
    logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, "a", output_transform=float)
    states = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: states.append(trainer.state_dict()))
    if state is not None:
        trainer.load_state_dict(state)
    trainer.run(range(10), max_epochs=epochs)
    return states


def only(folder):
    """Return the only spool."""
    (path,) = spools_in(folder)
    return path


class TestSteps:
    @pytest.mark.parametrize("epoch", [1, 3])
    def test_older_state_of_a_completed_run(self, tmp_path, epoch):
        """A run that was completed and is resumed from an older state logs no step twice (L3)."""
        stored = []
        with Store(stored, spool=tmp_path) as logger:
            states = run(logger)
        assert stored == [*range(1, 41), RunOutcome.COMPLETED]
        stored.clear()
        with Store(stored, spool=tmp_path) as logger:
            run(logger, states[epoch - 1], epochs=5)
        assert stored == [*range(41, 51), RunOutcome.COMPLETED]

    def test_run_without_a_saved_state(self, tmp_path):
        """A run of which no state was saved cannot be resumed, so nothing remains on disk."""
        with Store([], spool=tmp_path) as logger:
            logger.log_scalars({"a": 1.0}, 1)
        assert list(tmp_path.iterdir()) == []

    def test_size(self, tmp_path):
        """What remains of delivered records is smaller than 100 KB."""
        logger = Store([], spool=tmp_path)
        with logger:
            logger.state_dict()
            for step in range(20_000):
                logger.log_scalars({"a": 1.0}, step)
            assert logger._delivery.queue.save()
            assert logger.flush(30)
        assert read_content(only(tmp_path)).is_waiting is False
        assert [path.stat().st_size < 100_000 for path in tmp_path.iterdir()] == [True]

    def test_reading_leaves_no_files(self, tmp_path):
        """Looking for the spool of a run leaves no files of SQLite behind."""
        with Store([], spool=tmp_path) as logger:
            run(logger)
        read_content(only(tmp_path))
        assert list(tmp_path.iterdir()) == spools_in(tmp_path)


class TestOutcome:
    @pytest.mark.parametrize("epochs", [4, 5])
    def test_preempted_at_the_end(self, tmp_path, epochs):
        """A run that was interrupted after its last record, and is resumed, ends as completed even if nothing is logged (L5)."""
        stored = []
        with Store(stored, spool=tmp_path) as logger:
            states = run(logger)
            logger.close(RunOutcome.INTERRUPTED)
        with Store(stored, spool=tmp_path) as logger:
            run(logger, states[-1], epochs=epochs)
        assert stored == [
            *range(1, 41),
            RunOutcome.INTERRUPTED,
            *range(41, 10 * epochs + 1),
            RunOutcome.COMPLETED,
        ]

    def test_completed_while_the_server_is_down(self, tmp_path):
        """Neither process reached the server at its end: the outcome of the later one waits, although it logged nothing (L5)."""
        first = Store([], spool=tmp_path)
        state = run(first)[-1]
        first.is_down = True
        first.close(RunOutcome.INTERRUPTED)
        assert read_content(only(tmp_path)).about["outcome"] == "interrupted"
        second = Store([], spool=tmp_path)
        run(second, state)
        second.is_down = True
        second.close()
        assert read_content(only(tmp_path)).about["outcome"] == "completed"

    def test_loaded_state_without_a_run(self, tmp_path):
        """A process that loads a state and runs no engine does not touch the backend."""
        stored = []
        with Store(stored, spool=tmp_path) as logger:
            states = run(logger)
        stored.clear()
        with Store(stored, spool=tmp_path) as logger:
            trainer = Engine(lambda engine, batch: 0.5)
            logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, "a", output_transform=float)
            trainer.load_state_dict(states[-1])
        assert stored == []


class TestOldSpools:
    def make(self, folder, name, days=0, **about):
        """Create a spool that was changed some days ago."""
        spool = Spool(folder / f"{name}.spool")
        spool.describe(about)
        spool.close()
        changed = time.time() - days * 24 * 3600
        os.utime(spool.path, (changed, changed))

    def test_age(self, tmp_path):
        """Delivered spools are deleted after 30 days; those with a run that has not ended stay."""
        self.make(tmp_path, "new", KEPT_DAYS - 1)
        self.make(tmp_path, "old", KEPT_DAYS + 1)
        self.make(tmp_path, "waiting", KEPT_DAYS + 1, backend="open")
        delete_old(tmp_path)
        assert {path.stem for path in spools_in(tmp_path)} == {"new", "waiting"}

    def test_number(self, tmp_path, monkeypatch):
        """Of more than the maximum number of delivered spools, the oldest are deleted when a run begins."""
        monkeypatch.setattr("glowplug.loggers._spool.KEPT_SPOOLS", 2)
        for days in range(4):
            self.make(tmp_path, days, days)
        with Store([], spool=tmp_path) as logger:
            logger.log_scalars({"a": 1.0}, 1)
            logger.flush()
        assert {path.stem for path in spools_in(tmp_path)} == {"0", "1"}
        assert KEPT_SPOOLS == 500

    def leave(self, stored, folder, outcome):
        """Let the server die between the last record and close()."""
        logger = Store(stored, spool=folder, timeout=5)
        logger.log_scalars({"a": 1.0}, 1)
        assert logger.flush()
        state = logger.state_dict()
        logger.is_down = True
        logger.close(outcome)
        return state

    @pytest.mark.parametrize("outcome", list(RunOutcome))
    def test_server_dies_before_close(self, tmp_path, caplog, outcome):
        """The next process of the run ends it with the outcome of the one that could not (L5)."""
        stored = []
        state = self.leave(stored, tmp_path, outcome)
        path = only(tmp_path)
        assert f"end the run with `glowplug spool replay {path.stem}`" in caplog.text
        content = read_content(path)
        assert (content.records, content.is_waiting) == (0, True)
        with Store(stored, spool=tmp_path) as logger:
            logger.load_state_dict(state)
        assert stored == [1, outcome]
        assert not read_content(path).is_waiting

    def test_next_process_trains(self, tmp_path):
        """If the next process trains, the run ends with its outcome."""
        stored = []
        state = self.leave(stored, tmp_path, RunOutcome.FAILED)
        with Store(stored, spool=tmp_path) as logger:
            logger.load_state_dict(state)
            run(logger, epochs=1)
        assert stored == [1, *range(1, 11), RunOutcome.COMPLETED]

    def test_ended_run_is_not_opened(self, tmp_path):
        """A process that loads the state of an ended run and logs nothing does not touch the run."""
        stored = []
        with Store(stored, spool=tmp_path) as logger:
            run(logger)
            state = logger.state_dict()
        stored.clear()
        with Store(stored, spool=tmp_path) as logger:
            logger.load_state_dict(state)
        assert stored == []
