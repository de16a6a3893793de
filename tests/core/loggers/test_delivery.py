"""The delivery queue: order, threads, backend errors, and limits of memory and time."""

import logging
import threading
import time

import pytest

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import Counts, Logger
from glowplug.loggers._queue import BATCH


class Faulty(Logger):
    """Logger that raises or hangs in one of its methods."""

    uses_spool = False

    def __init__(self, fails_in=None, error=None, **options):
        super().__init__(**options)
        self.fails_in = fails_in
        self.error = error or OSError("disk full")
        self.written = []
        self.called = []
        # A hanging method waits for this event.
        self.release = threading.Event()

    def _maybe_fail(self, method):
        self.called.append(method)
        if method == self.fails_in:
            if self.error == "hang":
                self.release.wait(30)
            else:
                raise self.error

    def open_backend(self):
        self._maybe_fail("open")

    def write_scalars(self, scalars, step, timestamp):
        self._maybe_fail("write")
        self.written.append(step)

    def flush_backend(self):
        self._maybe_fail("flush")

    def close_backend(self, outcome):
        self._maybe_fail("close")


class Batching(Faulty):
    """Logger that accepts batches of records."""

    def write_scalars_batch(self, rows):
        self.written.append([step for _, step, _ in rows])


def run_with(logger, iterations=20):
    """Log each iteration with three handlers; return the state and the duration in seconds."""
    engine = Engine(lambda engine, batch: float(batch))
    for tag in "abc":
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag, output_transform=float)
    began = time.monotonic()
    state = engine.run(range(iterations))
    return state, time.monotonic() - began


def wait_until(condition, seconds=5):
    """Wait until the condition holds or a time limit expires."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "did not happen in time"
        time.sleep(0.01)


class TestBackendErrors:
    @pytest.mark.parametrize(
        "error", [OSError("disk full"), ConnectionError("refused"), SystemExit(3)], ids=repr
    )
    @pytest.mark.parametrize("fails_in", ["open", "write", "flush", "close"])
    def test_failing_backend(self, fails_in, error, caplog):
        """With a failing backend the run completes, close() returns in time, and every record is counted (L1)."""
        logger = Faulty(fails_in, error, timeout=3)
        state, seconds = run_with(logger)
        began = time.monotonic()
        logger.close()
        assert state.outcome is RunOutcome.COMPLETED
        assert seconds < 4
        assert time.monotonic() - began < 4
        lost = 60 if fails_in in ("open", "write") else 0
        assert logger.counts == Counts(sent=60 - lost, dropped=lost, pending=0)
        assert len(logger.written) == 60 - lost
        assert logger.called.count("close") == (fails_in != "open")
        assert str(error) in caplog.text
        assert "on_error='raise'" in caplog.text

    @pytest.mark.parametrize("hangs_in", ["open", "write", "flush", "close"])
    def test_hanging_backend(self, hangs_in, caplog):
        """A hanging backend delays the end of the run and close() by one timeout together (L1)."""
        logger = Faulty(hangs_in, "hang", timeout=0.5)
        state, seconds = run_with(logger)
        began = time.monotonic()
        logger.close()
        assert state.outcome is RunOutcome.COMPLETED
        assert seconds + time.monotonic() - began < 1.0
        counts = logger.counts
        assert sum(counts) == 60
        assert counts.pending == (60 if hangs_in in ("open", "write") else 0)
        assert "close() timed out after 0.5 s; " in caplog.text
        logger.release.set()

    def test_warning_is_limited_to_one_a_minute(self, caplog, monkeypatch):
        """Failures are reported once a minute, and close() reports the total."""
        now = [1000.0]
        monkeypatch.setattr("glowplug.loggers._delivery.time.monotonic", lambda: now[0])
        logger = Faulty("write")
        for step in range(3):
            logger.log_scalars({}, step)
            logger.flush()
        assert len(caplog.records) == 1
        assert "Faulty: scalars at step 0 was refused: OSError: disk full" in caplog.text
        now[0] += 61
        logger.log_scalars({}, 1)
        logger.flush()
        assert "records lost so far: 4" in caplog.messages[1]
        logger.close()
        assert caplog.messages[2] == "Faulty: closed; records: 0 sent, 4 lost"

    def test_refused_record_does_not_affect_others(self, caplog):
        """Of several waiting records only the refused one is lost."""

        class Picky(Faulty):
            def write_scalars(self, scalars, step, timestamp):
                if step == 3:
                    raise ValueError("no threes")
                self.written.append(step)

        logger = Picky()
        for step in range(6):
            logger.log_scalars({}, step)
        logger.close()
        assert logger.written == [0, 1, 2, 4, 5]
        assert logger.counts == Counts(5, 1, 0)
        assert "no threes" in caplog.text

    def test_retries_keep_the_order(self, caplog):
        """Records logged during an outage are delivered once, in order, afterwards."""

        class Away(Faulty):
            def write_scalars(self, scalars, step, timestamp):
                if step == 2 and self.called.count("open") < 3:
                    self.fails_in = "open" if self.called.count("open") < 2 else None
                    raise ConnectionError("gone")
                self.written.append(step)

            def open_backend(self):
                self.called.append("open")
                if self.called.count("open") == 2:
                    raise ConnectionError("still gone")

        logger = Away()
        for step in range(5):
            logger.log_scalars({}, step)
        wait_until(lambda: logger.counts.sent == 5, seconds=10)
        assert logger.written == [0, 1, 2, 3, 4]
        assert logger.called.count("open") == 3
        assert logger.counts == Counts(5, 0, 0)
        logger.close()
        assert "the logger retries as long as records are queued" in caplog.text

    def test_pauses_between_retries_grow(self):
        """Pauses between retries grow, however many records are logged."""
        logger = Faulty("open", ConnectionError("refused"))
        limit = time.monotonic() + 2.0
        step = 0
        while time.monotonic() < limit:
            step += 1
            logger.log_scalars({}, step)
            time.sleep(0.0005)
        assert step > BATCH
        assert logger.called.count("open") <= 3
        logger.close()

    def test_flush_returns_whether_delivered(self):
        """flush() returns False during an outage, and True after delivery."""
        logger = Faulty("open", ConnectionError("refused"))
        assert logger.flush() is True
        logger.log_scalars({}, 1)
        assert logger.flush() is False
        logger.fails_in = None
        assert logger.flush() is True
        assert logger.written == [1]
        logger.fails_in = "flush"
        assert logger.flush() is False
        logger.close()


class TestQueue:
    def test_batches(self):
        """write_scalars_batch receives up to 500 rows at a time, in order."""
        logger = Batching()
        for step in range(1200):
            logger.log_scalars({}, step)
        logger.close()
        assert [step for batch in logger.written for step in batch] == list(range(1200))
        assert max(map(len, logger.written)) <= BATCH
        assert len(logger.written) < 20

    def test_full_queue_drops_and_counts(self, caplog):
        """Records beyond the queue's capacity are dropped, counted and reported."""
        logger = Faulty("write", "hang", capacity=10, timeout=5)
        logger.log_scalars({}, 0)
        # Wait until the worker has taken the first record.
        wait_until(lambda: logger.called == ["open", "write"])
        for step in range(1, 31):
            logger.log_scalars({}, step)
        assert logger.counts == Counts(sent=0, dropped=20, pending=11)
        assert "the queue is full; log less often, or increase capacity= or memory_limit=" in caplog.text
        logger.release.set()
        logger.close()
        assert logger.written == list(range(11))
        assert logger.counts == Counts(sent=11, dropped=20, pending=0)


class TestThreads:
    def test_one_worker_keeps_the_order(self, logger):
        """All write methods run in the order of the calls on one worker thread."""
        for step in range(50):
            logger.log_scalars({"a": 1.0}, step)
            logger.log_text("t", "x", step)
        logger.log_params({"lr": 0.1})
        logger.close()
        assert [call[:1] + call[2:3] for call in logger.calls[1:101:2]] == [
            ("log_scalars", step) for step in range(50)
        ]
        assert [call[0] for call in logger.calls] == [
            "open",
            *["log_scalars", "log_text"] * 50,
            "log_params",
            "flush",
            "close",
        ]
        assert len(logger.threads) == 1
        assert threading.get_ident() not in logger.threads

    def test_log_handlers_run_on_the_callers_thread(self, logger):
        """Log handlers run on the training thread."""
        threads = set()

        def transform(output):
            threads.add(threading.get_ident())
            return {"x": output}

        engine = Engine(lambda engine, batch: float(batch))
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=transform)
        engine.run([1, 2])
        assert threads == {threading.get_ident()}

    def test_timestamp_is_that_of_the_call(self, logger):
        """A record has the time of its call, or the given timestamp, even if delivered later."""
        before = time.time()
        logger.log_scalars({"a": 1.0}, 1)
        after = time.time()
        logger.log_scalars({"a": 1.0}, 2, 3.0)
        logger.log_scalars({"a": 1.0}, step=3, timestamp=4.0)
        logger.flush()
        first, second, third = (call[3] for call in logger.calls if call[0] == "log_scalars")
        assert before <= first <= after
        assert (second, third) == (3.0, 4.0)

    def test_counts_with_many_threads(self):
        """Counts of sent and dropped records are exact with several threads."""
        logger = Batching(capacity=50)

        def log_many():
            for step in range(2000):
                logger.log_scalars({}, step)

        threads = [threading.Thread(target=log_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        logger.close()
        counts = logger.counts
        assert counts.pending == 0
        assert counts.sent + counts.dropped == 8000
        assert counts.sent == sum(map(len, logger.written))


class TestOnError:
    @pytest.mark.parametrize("fails_in", ["open", "write", "flush"])
    def test_raise_at_the_next_call(self, fails_in, caplog):
        """on_error="raise" raises the backend's exception once, at the next call, without a warning."""
        logger = Faulty(fails_in, OSError("disk full"), on_error="raise")
        logger.log_scalars({}, 1)
        with pytest.raises(OSError, match="disk full"):
            logger.flush()
        logger.fails_in = None
        logger.log_scalars({}, 2)
        logger.flush()
        logger.close()
        assert logger.written[-1] == 2
        assert not [record for record in caplog.records if "Training continues" in record.message]

    def test_raise_ends_the_run(self):
        """on_error="raise" ends a run with the backend's exception."""
        logger = Faulty("write", on_error="raise")
        with pytest.raises(OSError, match="disk full"):
            run_with(logger)
        logger.close()

    def test_raise_for_a_full_queue(self):
        """on_error="raise" raises an error after a record was dropped."""
        logger = Faulty("open", "hang", capacity=1, on_error="raise", timeout=0.1)
        logger.log_scalars({}, 1)
        logger.log_scalars({}, 2)
        with pytest.raises(
            RuntimeError, match="the queue is full; log less often, or increase capacity= or memory_limit="
        ):
            logger.log_scalars({}, 3)
        logger.release.set()
        logger.close()

    def test_unknown_value(self):
        """An unknown value of on_error is refused."""
        with pytest.raises(ValueError, match='on_error must be "warn" or "raise", got \'ignore\''):
            Faulty(on_error="ignore")


class TestLifecycle:
    def test_ensure_open_waits_for_the_backend(self):
        """ensure_open() opens once, on the worker, and raises a ConnectionError with the cause on failure."""
        logger = Faulty()
        logger.ensure_open()
        logger.ensure_open()
        assert logger.called.count("open") == 1
        logger.close()
        with pytest.raises(RuntimeError, match=r"after close\(\)"):
            logger.ensure_open()
        failing = Faulty("open", OSError("no such host"))
        with pytest.raises(ConnectionError, match="Faulty: the backend could not be opened") as caught:
            failing.ensure_open()
        assert str(caught.value.__cause__) == "no such host"
        failing.close()

    def test_call_after_close_is_counted_and_reported(self, caplog):
        """A record logged after close() is counted as lost and reported."""
        logger = Faulty()
        logger.log_scalars({}, 1)
        logger.close()
        logger.log_scalars({}, 2)
        assert logger.written == [1]
        assert logger.counts == Counts(1, 1, 0)
        assert caplog.records[-1].levelno == logging.WARNING
        assert "log_scalars was called after close(); close the logger only after the last run" in caplog.text

    def test_open_backend_can_call_close_backend(self):
        """A logger stays open if its open_backend() calls close_backend()."""
        calls = []

        class Reopening(Logger):
            def open_backend(self):
                self.close_backend(None)

            def write_scalars(self, scalars, step, timestamp):
                calls.append(step)

            def close_backend(self, outcome):
                calls.append("close")

        with Reopening(timeout=5) as logger:
            logger.log_scalars({}, 1)
            assert logger.flush()
            assert calls == ["close", 1]
        assert calls == ["close", 1, "close"]

    def test_flush_in_a_write_method_is_refused(self, caplog):
        """flush() in a write method is refused with a remedy, because it would wait for itself."""

        class Waiting(Logger):
            def write_scalars(self, scalars, step, timestamp):
                self.flush()

        began = time.monotonic()
        with Waiting(timeout=30) as logger:
            logger.log_scalars({}, 1)
        assert time.monotonic() - began < 10
        assert logger.counts == Counts(0, 1, 0)
        assert "Waiting: flush() was called on the worker thread" in caplog.text
