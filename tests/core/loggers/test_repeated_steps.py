"""Steps that a resumed run does not log again, for backends that are local files."""

import logging

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
