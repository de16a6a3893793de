"""Delivery: order, threads, faults of every kind of the backend, bounded queues and bounded waits."""

import logging
import threading
import time

import pytest

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import Counts, Logger
from glowplug.loggers._delivery import Delivery


class Faulty(Logger):
    """Fails, or hangs, in the method that it is told to."""

    def __init__(self, fails_in=None, error=None, **options):
        super().__init__(**options)
        self.fails_in = fails_in
        self.error = error or OSError("disk full")
        self.written = []
        self.called = []
        self.release = threading.Event()  # what a hanging method waits for

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
    """Takes many records at once."""

    def write_scalars_batch(self, rows):
        self.written.append([step for _, step, _ in rows])


def run_with(logger, iterations=20):
    """Run an engine that logs each iteration through three handlers; return its state and the seconds it took."""
    engine = Engine(lambda engine, batch: float(batch))
    for tag in "abc":
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag, output_transform=float)
    began = time.monotonic()
    state = engine.run(range(iterations))
    return state, time.monotonic() - began


def wait_until(condition, seconds=5):
    """Wait for a condition, with a limit."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "did not happen in time"
        time.sleep(0.01)


def test_sinks_run_in_order_on_one_worker_thread(logger):
    """Calls of different sinks arrive in the order of the calls, all on one thread that is not the caller's."""
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


def test_log_handlers_run_on_the_callers_thread(logger):
    """What reads the engine runs on the training thread; only the sink runs elsewhere."""
    threads = set()

    def transform(output):
        threads.add(threading.get_ident())
        return {"x": output}

    engine = Engine(lambda engine, batch: float(batch))
    logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=transform)
    engine.run([1, 2])
    assert threads == {threading.get_ident()}


def test_timestamps_are_those_of_the_call(logger):
    """A record that waited for the worker carries the time at which it was logged, or the one that was given."""
    before = time.time()
    logger.log_scalars({"a": 1.0}, 1)
    after = time.time()
    logger.log_scalars({"a": 1.0}, 2, 3.0)
    logger.log_scalars({"a": 1.0}, step=3, timestamp=4.0)
    logger.flush()
    first, second, third = (call[3] for call in logger.calls if call[0] == "log_scalars")
    assert before <= first <= after
    assert (second, third) == (3.0, 4.0)


@pytest.mark.parametrize("error", [OSError("disk full"), ConnectionError("refused"), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("fails_in", ["open", "write", "flush", "close"])
def test_L1_a_failing_backend_does_not_reach_the_run(fails_in, error, caplog):
    """Whatever the backend raises, wherever: the run completes, close returns in time, and each record is counted."""
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
def test_L1_a_hanging_backend_costs_a_bounded_wait(hangs_in, caplog):
    """A backend that never returns costs the run one timeout, not one per handler, and close another."""
    logger = Faulty(hangs_in, "hang", timeout=0.5)
    state, seconds = run_with(logger)
    began = time.monotonic()
    logger.close()
    assert state.outcome is RunOutcome.COMPLETED
    assert seconds < 1.0
    assert time.monotonic() - began < 1.0
    counts = logger.counts
    assert sum(counts) == 60
    assert counts.pending == (60 if hangs_in in ("open", "write") else 0)
    assert "gave up after 0.5 s; " in caplog.text
    logger.release.set()


def test_warning_is_limited_to_one_a_minute(caplog, monkeypatch):
    """Many failures give one warning; the next one comes a minute later, and close says the total."""
    now = [1000.0]
    monkeypatch.setattr("glowplug.loggers._delivery.time.monotonic", lambda: now[0])
    logger = Faulty("write")
    for _ in range(3):
        logger.log_scalars({}, 1)
        logger.flush()
    assert len(caplog.records) == 1
    assert "Faulty: writing failed: OSError: disk full" in caplog.text
    now[0] += 61
    logger.log_scalars({}, 1)
    logger.flush()
    assert "4 records lost so far" in caplog.messages[1]
    logger.close()
    assert caplog.messages[2] == "Faulty: closed; 0 records sent, 4 lost"


def test_one_bad_record_does_not_take_others_along(caplog):
    """Of records that wait together only the one that is refused is lost."""

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


def test_lost_connection_is_tried_again_in_order(caplog):
    """Records wait while a backend is away, and arrive once and in order when it is back."""

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
    assert "retrying while records wait" in caplog.text


def test_a_backend_that_is_down_is_not_hammered():
    """Pauses between attempts grow, however much is logged meanwhile."""
    logger = Faulty("open", ConnectionError("refused"))
    limit = time.monotonic() + 2.0
    step = 0
    while time.monotonic() < limit:
        step += 1
        logger.log_scalars({}, step)
        time.sleep(0.0005)
    assert step > Delivery.BATCH
    assert logger.called.count("open") <= 3
    logger.close()


def test_flush_says_whether_it_was_delivered():
    """Flush is False while the backend cannot be reached, and True as soon as all has gone out."""
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


def test_batches_where_the_logger_takes_them():
    """log_scalars_batch gets many rows at once, at most 500, all in order."""
    logger = Batching()
    for step in range(1200):
        logger.log_scalars({}, step)
    logger.close()
    assert [step for batch in logger.written for step in batch] == list(range(1200))
    assert max(map(len, logger.written)) <= Delivery.BATCH
    assert len(logger.written) < 20


def test_bounded_queue_drops_and_counts(caplog):
    """What a stalled backend cannot take beyond the capacity is dropped, counted and reported."""
    logger = Faulty("write", "hang", capacity=10, timeout=5)
    logger.log_scalars({}, 0)
    wait_until(lambda: logger.called == ["open", "write"])  # the first record is in the worker's hands
    for step in range(1, 31):
        logger.log_scalars({}, step)
    assert logger.counts == Counts(sent=0, dropped=20, pending=11)
    assert "the queue is full: 10 records are waiting" in caplog.text
    logger.release.set()
    logger.close()
    assert logger.written == list(range(11))
    assert logger.counts == Counts(sent=11, dropped=20, pending=0)


def test_counts_are_right_with_many_threads():
    """Records from several threads, some dropped, add up exactly."""
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


@pytest.mark.parametrize("fails_in", ["open", "write", "flush"])
def test_on_error_raise_raises_at_the_next_call(fails_in, caplog):
    """With on_error="raise" the backend's own exception comes out of the next call, once, and nothing is warned of."""
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


def test_on_error_raise_ends_the_run():
    """With on_error="raise" a run over a failing backend ends with the backend's exception."""
    logger = Faulty("write", on_error="raise")
    with pytest.raises(OSError, match="disk full"):
        run_with(logger)
    logger.close()


def test_on_error_raise_raises_for_a_full_queue():
    """With on_error="raise" a record that found no room is an error of the next call."""
    logger = Faulty("open", "hang", capacity=1, on_error="raise", timeout=0.1)
    logger.log_scalars({}, 1)
    logger.log_scalars({}, 2)
    with pytest.raises(RuntimeError, match="the queue is full: 1 records are waiting"):
        logger.log_scalars({}, 3)
    logger.release.set()
    logger.close()


def test_on_error_is_checked():
    """Another word is refused with the value."""
    with pytest.raises(ValueError, match='on_error must be "warn" or "raise", got \'ignore\''):
        Faulty(on_error="ignore")


def test_ensure_open_waits_for_the_backend():
    """ensure_open opens on the worker's thread, once, and raises a ConnectionError with the cause if it cannot."""
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


def test_call_after_close_is_counted_and_reported(caplog):
    """A record after close is lost, and the log says why."""
    logger = Faulty()
    logger.log_scalars({}, 1)
    logger.close()
    logger.log_scalars({}, 2)
    assert logger.written == [1]
    assert logger.counts == Counts(1, 1, 0)
    assert caplog.records[-1].levelno == logging.WARNING
    assert "log_scalars was called after close(); close a logger after the last run" in caplog.text


def test_a_logger_can_leave_its_backend_from_within():
    """A logger may call its own ``close_backend`` in ``open_backend``; it stays open."""
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


def test_a_logger_that_waits_for_itself_is_told(caplog):
    """``self.flush()`` in a sink would wait for the sink to return; it is refused, with what to do."""

    class Waiting(Logger):
        def write_scalars(self, scalars, step, timestamp):
            self.flush()

    began = time.monotonic()
    with Waiting(timeout=30) as logger:
        logger.log_scalars({}, 1)
    assert time.monotonic() - began < 10
    assert logger.counts == Counts(0, 1, 0)
    assert "Waiting: flush() was called on the worker thread" in caplog.text
