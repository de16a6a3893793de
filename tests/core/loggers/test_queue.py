"""Records on disk and in memory: what happens at the limits of memory, and when the disk fails."""

import sys
import threading
import time
from pathlib import Path

import pytest

from glowplug.loggers import Logger
from glowplug.loggers._queue import SpoolQueue
from glowplug.loggers._record import Record
from glowplug.loggers._waiting import Bounds, Waiting

np = pytest.importorskip("numpy")


@pytest.fixture
def make_down(make_logger, monkeypatch):
    """Return a function that makes a logger whose backend is down until ``is_down`` is false."""

    def make(**options):
        logger = make_logger(timeout=20, **options)
        write, logger.is_down = logger.write_scalars, True

        def write_scalars(scalars, step, timestamp):
            if logger.is_down:
                raise ConnectionError("down")
            write(scalars, step, timestamp)

        monkeypatch.setattr(logger, "write_scalars", write_scalars)
        return logger

    return make


def recover(logger):
    """Deliver everything now that the backend is up; an attempt that began before may still fail."""
    logger.is_down = False
    return logger.flush(20) or logger.flush(20)


def steps(logger):
    """Return the steps that the backend got, in order."""
    return sorted(call[2] for call in logger.calls if call[0] == "log_scalars")


def test_capacity_does_not_limit_the_disk(make_down, tmp_path):
    """Records that were saved wait on disk, however small the capacity of the memory is."""
    with make_down(spool=tmp_path, capacity=20) as logger:
        for step in range(200):
            logger.log_scalars({"x": 1.0}, step)
            if step % 10 == 9:
                logger.state_dict()
        assert logger.counts.dropped == 0
        assert recover(logger)
        assert logger.counts == (200, 0, 0)
    assert steps(logger) == list(range(200))


def fill_disk(logger, pages):
    """Limit the database of the spool to a number of pages; SQLite then reports a full disk."""
    logger._delivery.queue.spool._database.execute(f"PRAGMA max_page_count = {pages}")


def log(logger, steps):
    """Log records that are too large for the free space in a page, and save them."""
    for step in steps:
        logger.log_scalars({f"a name of {'many ' * 2000} letters {step}": 1.0}, step)
        logger.state_dict()


class TestFullDisk:
    def test_for_a_while(self, make_down, tmp_path, monkeypatch):
        """Records that wait in memory do not remove others from the disk, and all arrive."""
        monkeypatch.setattr(SpoolQueue, "WINDOW", Bounds(3, 1 << 26))
        with make_down(spool=tmp_path) as logger:
            log(logger, range(5))
            fill_disk(logger, 1)
            log(logger, range(5, 30))
            fill_disk(logger, 1 << 20)
            log(logger, range(30, 40))
            assert logger.counts.pending == 40
            assert recover(logger)
            assert logger.counts == (40, 0, 0)
        assert steps(logger) == list(range(40))

    def test_saved_when_the_disk_works_again(self, make_down, tmp_path):
        """Records that waited in memory are saved before later ones, so that a kill leaves no gap in the steps on disk (L2)."""
        logger = make_down(spool=tmp_path)
        log(logger, range(5))
        fill_disk(logger, 1)
        log(logger, range(5, 12))
        fill_disk(logger, 1 << 20)
        # The worker may just try to write some of them.
        end = time.monotonic() + 20
        while logger._delivery.queue._unsaved:
            assert time.monotonic() < end
            time.sleep(0.01)
        log(logger, range(12, 15))
        assert [record.step for record in logger._delivery.queue.spool.read(0, 99)] == list(range(15))
        assert logger.counts == (0, 0, 15)
        assert recover(logger)
        logger.close()
        assert steps(logger) == list(range(15))

    def test_steps_on_disk_have_no_gap(self, make_down, tmp_path, monkeypatch):
        """While an earlier record is in memory alone, because the worker is writing it, no later one is saved (L2)."""
        logger, is_writing, goes_on = make_down(spool=tmp_path), threading.Event(), threading.Event()
        logger.is_down = False
        log(logger, [0])
        assert logger.flush()

        def write_slowly(scalars, step, timestamp):
            is_writing.set()
            assert goes_on.wait(20)

        monkeypatch.setattr(logger, "write_scalars", write_slowly)
        fill_disk(logger, 1)
        log(logger, [1])
        assert is_writing.wait(20)
        log(logger, [2])
        fill_disk(logger, 1 << 20)
        log(logger, [3])
        on_disk = set(logger._delivery.queue.spool.steps.values())
        goes_on.set()
        logger.close()
        assert on_disk == {0}
        assert logger.counts == (4, 0, 0)

    def test_until_the_end(self, make_down, tmp_path):
        """Records that could not be saved or delivered count as lost when the logger is closed."""
        logger = make_down(spool=tmp_path)
        log(logger, range(5))
        fill_disk(logger, 1)
        log(logger, range(5, 12))
        logger.timeout = 3
        logger.close()
        assert logger.counts == (0, 7, 5)

    def test_saved_before_the_call_returns(self, make_down, tmp_path):
        """With durable=True, a record that cannot be saved is written to the backend before the call returns."""
        with make_down(spool=tmp_path, durable=True) as logger:
            logger.is_down = False
            log(logger, range(5))
            fill_disk(logger, 1)
            logger.log_scalars({f"a name of {'many ' * 20000} letters": 1.0}, 5)
            assert steps(logger)[-1] == 5


class Batches(Logger):
    """Logger of batches that refuses step 4, and whose backend is down at the second and third write."""

    def __init__(self, **options):
        super().__init__(**options)
        self.written, self.writes = [], 0

    def write_scalars_batch(self, rows):
        self.writes += 1
        steps = [step for _, step, _ in rows]
        if self.writes in (2, 3):
            raise ConnectionError("down")
        if 4 in steps:
            raise ValueError("refused")
        self.written += steps


@pytest.mark.parametrize("spool", [True, False])
def test_order_after_a_refused_batch(tmp_path, spool):
    """If the backend goes down while the parts of a refused batch are written, the order of the records stays."""
    with Batches(spool=tmp_path if spool else False) as logger:
        for step in range(1, 7):
            logger.log_scalars({"x": 1.0}, step)
        while not logger.flush():
            assert logger.writes < 20
    assert logger.written == [1, 2, 3, 5, 6]
    assert logger.counts == (5, 1, 0)


class Store(Logger):
    """Logger of numbers and files whose backend is down at first."""

    is_down = True

    def __init__(self, **options):
        super().__init__(**options)
        self.got = []

    def write_scalars(self, scalars, step, timestamp):
        self.take(step)

    def write_artifact(self, path, name):
        self.take(Path(path).stat().st_size)

    def take(self, what):
        if self.is_down:
            raise ConnectionError("down")
        self.got.append(what)


class TestLimitOfTheDisk:
    @pytest.fixture
    def logger(self, tmp_path):
        """A logger that may keep 10,000 bytes on disk."""
        with Store(spool=tmp_path / "spool", spool_limit=10_000, timeout=20) as logger:
            yield logger

    def test_artifact_above_the_limit(self, logger, tmp_path):
        """An artifact that is larger than the limit is delivered, and so are the records that are logged with it."""
        file = tmp_path / "model.pt"
        file.write_bytes(b"x" * 50_000)
        logger.log_scalars({"x": 1.0}, 1)
        logger.log_artifact(file)
        for step in range(2, 11):
            logger.log_scalars({"x": 1.0}, step)
        logger.state_dict()
        assert recover(logger)
        assert logger.counts == (11, 0, 0)
        assert logger.got == [1, 50_000, *range(2, 11)]

    def test_dropped_artifacts_leave_no_files(self, logger, tmp_path):
        """Of the artifacts above the limit, which are dropped, nothing stays on disk."""
        file = tmp_path / "model.pt"
        file.write_bytes(b"x" * 6_000)
        logger.log_scalars({"x": 1.0}, 1)
        for _ in range(4):
            logger.log_artifact(file)
        logger.state_dict()
        assert logger.counts.dropped == 3
        assert len(list((tmp_path / "spool" / "files").iterdir())) == 1
        logger.is_down = False


def test_pauses_do_not_shrink_with_a_spool(tmp_path):
    """Pauses between the attempts to open the backend grow, although the spool receives records all the time."""
    attempts = []

    class Refused(Logger):
        def open_backend(self):
            attempts.append(time.monotonic())
            raise ConnectionError("refused")

        def write_scalars(self, scalars, step, timestamp): ...

    logger = Refused(spool=tmp_path, timeout=0.1)
    limit, step = time.monotonic() + 2.0, 0
    while time.monotonic() < limit:
        step += 1
        logger.log_scalars({"x": 1.0}, step)
        time.sleep(0.001)
    assert 1 <= len(attempts) <= 3
    logger.close()


def test_close_after_a_recovery(make_down, tmp_path):
    """The time that an earlier outage took does not count once the backend has recovered."""
    with make_down(spool=tmp_path) as logger:
        logger.timeout = 1.0
        logger.log_scalars({"x": 1.0}, 1)
        assert not logger.flush()
        assert recover(logger)
        logger._delivery._waited = 0.9
        logger.log_scalars({"x": 1.0}, 2)
        logger.state_dict()
        while logger.counts.pending:
            time.sleep(0.01)
        assert logger._delivery._waited == 0.0
        logger.log_scalars({"x": 1.0}, 3)
    assert steps(logger) == [1, 2, 3]


def test_spool_that_cannot_be_opened_at_first(make_down, tmp_path, monkeypatch, caplog):
    """A spool that cannot be opened is tried again; until then, records wait in memory, and the run is known."""
    monkeypatch.setattr(SpoolQueue, "RETRY_AFTER", 0.0)
    (tmp_path / "home").write_text("a file where the folder should be")
    with make_down(spool=tmp_path / "home" / "spool") as logger:
        logger.log_scalars({"x": 1.0}, 1)
        logger.state_dict()
        assert "records wait in memory" in caplog.text
        (tmp_path / "home").unlink()
        logger.log_scalars({"x": 1.0}, 2)
        logger.state_dict()
        assert len(list((tmp_path / "home" / "spool").glob("*.spool"))) == 1
        assert recover(logger)
    assert steps(logger) == [1, 2]


class TestReducedByTheCaller:
    @pytest.fixture(params=[True, False], ids=["spool", "memory"])
    def logger(self, make_logger, tmp_path, monkeypatch, request):
        """A logger whose callers reduce each tensor."""
        monkeypatch.setattr(Waiting, "EAGER", 0)
        with make_logger(spool=tmp_path if request.param else False) as logger:
            yield logger

    def test_histogram(self, logger):
        """A histogram that the caller computed reaches the backend unchanged."""
        logger.log_histogram("w", np.arange(4.0), 1)
        assert logger.flush()
        ((_, _, histogram, *_),) = [call for call in logger.calls if call[0] == "log_histogram"]
        assert (sum(histogram.counts), histogram.minimum, histogram.maximum) == (4, 0.0, 3.0)

    def test_no_finite_value(self, logger, caplog):
        """A tensor without finite values raises nothing in the training loop; its record is dropped and named."""
        logger.log_histogram("w", np.full(4, np.nan), 1)
        logger.log_scalars({"x": 1.0}, 1)
        assert logger.flush()
        assert logger.counts == (1, 1, 0)
        assert "histogram w at step 1 was refused" in caplog.text


def test_first_records_while_other_threads_add():
    """The waiting records can be read at any moment, although another thread adds records all the time."""
    waiting, is_over = Waiting(Bounds(1 << 20, 1 << 30), lambda: None), threading.Event()
    record = Record(1, "scalars", None, 1, 0.0, {"x": 1.0})

    def add():
        while not is_over.is_set():
            if len(waiting) < 600:
                waiting.put(record)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=add)
    thread.start()
    try:
        for _ in range(20_000):
            for _ in waiting.first_records(500):
                waiting.pop()
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(interval)
