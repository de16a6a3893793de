"""Steps that a resumed run does not log again, because the backend has them."""

import logging
import shutil

import pytest

from glowplug.loggers import Logger


class FileLike(Logger):
    """Logger that knows its steps, or fails to read them."""

    uses_spool = False

    def __init__(self, known):
        super().__init__()
        self.known = known
        self.stored = []

    def logged_steps(self):
        if isinstance(self.known, Exception):
            raise self.known
        return self.known

    def write_scalars(self, scalars, step, timestamp):
        self.stored.append((step, scalars))


def resumed(known, steps):
    """Return what a resumed logger stores of ``loss`` at these steps."""
    with FileLike(known) as logger:
        logger.load_state_dict({"last_number": 3, "run": {}, "spool": "", "steps": {}})
        for step in steps:
            logger.log_scalars({"loss": 0.5}, step)
        assert logger.flush(5)
    return [step for step, _ in logger.stored]


@pytest.mark.parametrize("highest", [-1, 0, 2])
def test_steps_up_to_the_highest_one_are_left_out(highest):
    """Steps up to the highest known one are not logged again, also if that is zero or negative."""
    assert resumed({"scalars:loss": highest}, range(-2, 5)) == list(range(highest + 1, 5))


def test_steps_that_cannot_be_read(caplog):
    """If reading the known steps fails, the failure is reported and the logger logs all steps."""
    with caplog.at_level(logging.WARNING):
        assert resumed(PermissionError("no access"), range(3)) == [0, 1, 2]
    (message,) = [record.getMessage() for record in caplog.records]
    assert (
        "the logged steps of the run could not be read, so values may be logged twice: PermissionError: no access"
        in message
    )


class Remote(Logger):
    """Logger of a backend that several processes share, and that may be down."""

    def __init__(self, stored, is_down=False):
        super().__init__(timeout=5)
        self.stored = stored
        self.is_down = is_down
        self.fails = False

    def run_info(self):
        return {"run": "remote"}

    def logged_steps(self):
        return {f"scalars:{name}": max(self.stored[name]) for name in self.stored}

    def open_backend(self):
        if self.is_down:
            raise ConnectionError("down")

    def write_scalars(self, scalars, step, timestamp):
        if self.fails:
            raise ConnectionError("lost")
        for name in scalars:
            self.stored.setdefault(name, []).append(step)


def log_steps(logger, steps):
    """Log ``loss`` at some steps, and ``accuracy`` at the even ones."""
    for step in steps:
        logger.log_scalars({"loss": 0.5} if step % 2 else {"loss": 0.5, "accuracy": 0.5}, step)


def test_spool_that_is_gone(state_folder):
    """A resumed run without its spool logs no step twice, because the backend knows the steps (L3)."""
    stored = {}
    with Remote(stored) as first:
        log_steps(first, range(3))
        state = first.state_dict()
        log_steps(first, range(3, 6))
    shutil.rmtree(state_folder)
    with Remote(stored) as second:
        second.load_state_dict(state)
        log_steps(second, range(3, 9))
        assert second.flush()
    assert stored == {"loss": [*range(9)], "accuracy": [0, 2, 4, 6, 8]}


def test_records_of_the_earlier_process():
    """Records that the earlier process could not send are sent, even if the backend has higher steps (L2)."""
    stored = {}
    with Remote(stored, is_down=True) as first:
        log_steps(first, [5, 4])
        state = first.state_dict()
    assert stored == {}
    stored["loss"] = [7]
    with Remote(stored) as second:
        second.load_state_dict(state)
        log_steps(second, [6, 7, 8])
        assert second.flush()
    assert stored == {"loss": [7, 5, 4, 8], "accuracy": [4, 6, 8]}


@pytest.mark.parametrize("is_resumed", [False, True])
def test_records_of_an_earlier_resumed_process(is_resumed):
    """A process that resumed the run while the backend was down leaves records, of which only the new ones are sent (L3)."""
    stored = {}
    with Remote(stored) as first:
        log_steps(first, range(2))
        state = first.state_dict()
        log_steps(first, [] if is_resumed else [2])
    if is_resumed:
        with Remote(stored) as again:
            again.load_state_dict(state)
            log_steps(again, [2])
    # The last process has sent more than its spool tells.
    stored["loss"] += [3, 4]
    with Remote(stored, is_down=True) as second:
        second.load_state_dict(state)
        log_steps(second, range(2, 7))
    with Remote(stored) as third:
        third.load_state_dict(state)
        log_steps(third, range(3, 9))
        assert third.flush()
    assert stored == {"loss": [*range(9)], "accuracy": [0, 2, 4, 6, 8]}


def test_rest_of_an_earlier_resumed_process():
    """Steps in any order that a resumed process has logged are sent, although a later process sends the rest of them (L2)."""
    stored = {}
    with Remote(stored) as first:
        log_steps(first, [1])
        state = first.state_dict()
    with Remote(stored) as second:
        second.load_state_dict(state)
        log_steps(second, [7])
        assert second.flush()
        # The connection is lost, and the next attempt to open the backend fails.
        second.fails = second.is_down = True
        log_steps(second, [5])
    assert stored["loss"] == [1, 7]
    with Remote(stored) as third:
        third.load_state_dict(state)
        log_steps(third, [8])
        assert third.flush()
    assert stored["loss"] == [1, 7, 5, 8]
