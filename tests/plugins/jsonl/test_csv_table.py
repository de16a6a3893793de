"""Tests of CsvLogger."""

import logging
import math

import pytest

from glowplug import Engine, Events
from glowplug.loggers import OutputHandler
from glowplug.testing import FakeEngine
from glowplug_jsonl import CsvLogger


@pytest.fixture
def path(tmp_path):
    """Return the path of a file in a folder that does not exist."""
    return tmp_path / "logs" / "run.csv"


def test_a_run(path, scalars_of):
    """A trainer and its evaluator log to one table, whose names need not be known at the start."""
    trainer, evaluator = Engine(lambda engine, batch: batch / 4), Engine(lambda engine, batch: batch)
    with CsvLogger(path) as logger:
        logger.attach_output_handler(
            trainer, Events.ITERATION_COMPLETED, "train", output_transform=lambda loss: {"loss": loss}
        )
        logger.attach_output_handler(evaluator, Events.COMPLETED, "val", output_transform=float)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([7]))
        trainer.run([1, 2], max_epochs=2)
    assert scalars_of(path) == [
        ("train/loss", 1, 0.25),
        ("train/loss", 2, 0.5),
        ("val/output", 1, 7.0),
        ("train/loss", 3, 0.25),
        ("train/loss", 4, 0.5),
        ("val/output", 2, 7.0),
    ]


def test_rows(path):
    """A row has the step, the name, the value and the time of the event; the header is written once."""
    engine = FakeEngine()
    for number in (1, 2):
        with CsvLogger(path) as logger:
            logger.attach(engine, Events.EPOCH_COMPLETED, OutputHandler("val", metric_names="all"))
            engine.fire(Events.EPOCH_COMPLETED, epoch=number, metrics={"accuracy": 0.5})
            logger.log_scalars({'a,"b\n': True, "nan": math.nan, "inf": -math.inf}, number, 2.5)
    lines = path.read_text().splitlines()
    assert lines[0] == "step,name,value,time"
    assert [line.rpartition(",")[0] for line in lines[1::4]] == ["1,val/accuracy,0.5", "2,val/accuracy,0.5"]
    assert lines[6:] == ['2,"a,""b\\n",1,2.5', "2,nan,nan,2.5", "2,inf,-inf,2.5"]


@pytest.mark.parametrize(
    "content", ["epoch,loss\n1,0.5\n", "epoch,loss"], ids=["whole line", "part of a line"]
)
def test_a_file_with_other_columns(path, caplog, content):
    """A file with other columns is not changed, and the message says what to do."""
    path.parent.mkdir()
    path.write_text(content)
    with caplog.at_level(logging.WARNING), CsvLogger(path, timeout=0.5) as logger:
        logger.log_scalars({"loss": 0.5}, 1)
    assert path.read_text() == content
    assert "choose another path" in caplog.text
    assert logger.counts.sent == 0
