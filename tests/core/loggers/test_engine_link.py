"""What a logger shares with an engine: state, end-of-run handlers, event context; and its pickled copies."""

import pickle
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from glowplug import Engine, EventEnum, Events
from glowplug.loggers import Logger, OutputHandler
from glowplug.testing import FakeEngine


class Custom(EventEnum):
    CHECKED = "checked"


class Slotted(Logger):
    """Logger with slots."""

    __slots__ = ("__secret", "file", "path")

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.file = None
        self.__secret = "mangled"

    def open_backend(self):
        self.file = Path(self.path).open("a")  # noqa: SIM115 - closed in close_backend

    def write_scalars(self, scalars, step, timestamp):
        self.file.write(f"{step} {self.__secret}\n")

    def close_backend(self, outcome):
        self.file.close()


def test_slots_can_be_pickled(tmp_path):
    """A logger with __slots__ can be pickled before and after use, and its copy works."""
    original = Slotted(str(tmp_path / "log.txt"))
    original.log_scalars({}, 1)
    original.flush()
    copy = pickle.loads(pickle.dumps(original))
    assert copy.file is None
    original.close()
    copy.log_scalars({}, 2)
    copy.close()
    assert (tmp_path / "log.txt").read_text() == "1 mangled\n2 mangled\n"


class TestState:
    def test_travels_with_the_engine(self, make_logger):
        """The sequence number is part of the engine's state, and a new logger continues it."""
        first, second = make_logger(), make_logger()
        fake = FakeEngine()
        first.attach_output_handler(fake, Events.STARTED, "t", metric_names="all")
        for step in range(3):
            first.log_scalars({"a": 1.0}, step)
        assert first.state_dict()["last_number"] == 3
        second.load_state_dict(first.state_dict())
        second.log_scalars({"a": 1.0}, 3)
        assert second.state_dict()["last_number"] == 4

    def test_two_loggers_of_one_class(self, make_logger):
        """Two loggers of one class on one engine have separate states."""
        first, second = make_logger(), make_logger()
        engine = Engine(lambda engine, batch: float(batch))
        for logger in (first, first, second):
            logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
        engine.run([1, 2])
        states = engine.state_dict()["handlers"]
        assert {key: state["last_number"] for key, state in states.items()} == {
            "ListLogger": 4,
            "ListLogger#2": 2,
        }
        assert len({state["spool"] for state in states.values()}) == 2


def test_one_teardown_registration(logger):
    """A logger registers once at TEARDOWN, until its last log handler is removed."""
    fake = FakeEngine()
    handles = [logger.attach_output_handler(fake, Events.STARTED, tag, metric_names="all") for tag in "abc"]
    assert len(fake.handlers_at(Events.TEARDOWN)) == 1
    for handle in handles[:2]:
        handle.remove()
    assert len(fake.handlers_at(Events.TEARDOWN)) == 1
    handles[2].remove()
    assert len(fake.handlers_at(Events.TEARDOWN)) == len(fake.stash) == 0


def test_custom_event_before_an_evaluator(logger):
    """A custom event fired before an evaluator runs does not change the evaluator's step."""
    trainer, evaluator = (Engine(lambda engine, batch: batch) for _ in range(2))
    trainer.register_events(Custom.CHECKED)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.fire_event(Custom.CHECKED))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    logger.attach_output_handler(evaluator, Events.COMPLETED, "v", output_transform=float)
    trainer.run(range(10), max_epochs=3)
    assert [step for step, _ in logger.scalars] == [1, 2, 3]


def test_mock_engine(logger):
    """Attaching to a MagicMock engine neither raises nor loops."""
    engine = MagicMock()
    handle = logger.attach_output_handler(engine, Events.EPOCH_COMPLETED, "t", state_attributes=["loss"])
    OutputHandler("t", output_transform=lambda _: {"loss": 1.0})(engine, logger, Events.EPOCH_COMPLETED)
    handle.remove()
    assert [scalars for _, scalars in logger.scalars] == [{"t/loss": 1.0}]


def test_class_as_log_handler(logger):
    """A log handler class instead of an object is refused with the right call."""
    with pytest.raises(
        TypeError, match=r"write logger\.attach\(engine, event_name, OutputHandler\(\.\.\.\)\)"
    ):
        logger.attach(FakeEngine(), Events.STARTED, OutputHandler)
