"""Tests of runs that are resumed from an older state, with ``on_repeat`` and records of ``TensorboardLogger.writer``."""

import time

import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from glowplug_tensorboard import TensorboardLogger


def steps(folder, tag):
    """Return the steps of a tag that TensorBoard shows for the event files of a folder, without its subfolders."""
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return [event.step for event in accumulator.Tensors(tag)]


def add_pr_curve(writer, step):
    """Log an event that only the writer can log."""
    writer.add_pr_curve("pr", torch.tensor([0, 1]), torch.tensor([0.25, 0.75]), step)


def log_all(logger, numbers):
    """Log a number, an event and a number in a separate folder at each step."""
    for step in numbers:
        logger.log_scalars({"x": float(step)}, step)
        add_pr_curve(logger.writer, step)
        logger.writer.add_scalars("both", {"a": float(step)}, step)


@pytest.fixture
def interrupted(tmp_path):
    """Log three steps; return the folder and the state after the first step."""
    with TensorboardLogger(tmp_path / "logs") as logger:
        log_all(logger, [1])
        state = logger.state_dict()
        log_all(logger, [2, 3])
    # TensorBoard orders files by the second in their names.
    time.sleep(1.1)
    return tmp_path / "logs", state


def test_events_of_the_writer_are_not_repeated(interrupted):
    """A resumed run leaves out events of the writer that the folder or its subfolders contain at the same or a later step."""
    folder, state = interrupted
    with TensorboardLogger() as logger:
        logger.load_state_dict(state)
        log_all(logger, [2, 3, 4])
        # Events without a step are always logged.
        logger.writer.add_hparams({"lr": 0.1}, {"accuracy": 0.5}, run_name="trial")
    assert steps(folder, "x") == [1, 2, 3, 4]
    assert steps(folder, "pr") == [1, 2, 3, 4]
    assert steps(folder / "both_a", "both") == [1, 2, 3, 4]
    assert steps(folder / "trial", "accuracy") == [0]


def test_figures_are_not_repeated(tmp_path):
    """A resumed run leaves out figures that the folder contains, which TensorBoard stores as images."""
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(2, 1), dpi=10)
    with TensorboardLogger(tmp_path) as logger:
        logger.log_scalars({"x": 1.0}, 1)
        state = logger.state_dict()
        logger.log_figure("curve", figure, 2)
    with TensorboardLogger() as logger:
        logger.load_state_dict(state)
        logger.log_figure("curve", figure, 2)
        logger.log_figure("curve", figure, 3)
    assert steps(tmp_path, "curve") == [2, 3]


@pytest.mark.parametrize("first", ["graph", "event", "event in a folder"])
def test_overwrite_with_events_of_the_writer(interrupted, first):
    """Each folder hides its earlier records from its first event with a step on; events without a step hide nothing."""
    folder, state = interrupted
    with TensorboardLogger(on_repeat="overwrite") as logger:
        logger.load_state_dict(state)
        if first == "graph":
            logger.log_graph(torch.nn.Linear(2, 1), torch.zeros(1, 2))
        if first == "event":
            add_pr_curve(logger.writer, 2)
        logger.writer.add_scalars("both", {"a": 2.0}, 2)
        logger.log_scalars({"x": 2.0}, 2)
    assert steps(folder, "x") == [1, 2]
    assert steps(folder, "pr") == ([1, 2] if first == "event" else [1])
    assert steps(folder / "both_a", "both") == [1, 2]
    if first == "graph":
        assert EventAccumulator(str(folder)).Reload().Graph().node


def test_overwrite_in_a_moved_folder(interrupted):
    """The earlier records are also hidden if the folder was moved."""
    folder, state = interrupted
    moved = folder.rename(folder.with_name("moved"))
    with TensorboardLogger(moved, on_repeat="overwrite") as logger:
        logger.load_state_dict(state)
        logger.log_scalars({"x": 2.0}, 2)
    assert steps(moved, "x") == [1, 2]


def test_graph_before_the_state_is_loaded(interrupted):
    """Events without a step do not create the file, so a state that is loaded later still selects the folder."""
    folder, state = interrupted
    with TensorboardLogger() as logger:
        logger.log_graph(torch.nn.Linear(2, 1), torch.zeros(1, 2))
        time.sleep(0.5)
        logger.load_state_dict(state)
        logger.log_scalars({"x": 4.0}, 4)
    assert logger.log_dir == str(folder)
    assert EventAccumulator(str(folder)).Reload().Graph().node
