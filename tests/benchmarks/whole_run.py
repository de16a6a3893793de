"""The cost of a small run, ten epochs of a multi-layer perceptron, compared with a loop written by hand."""

import tempfile
import time

import ignite.engine
import torch
from harness import FLOOR, GLOWPLUG, IGNITE, Goal, Row
from ignite.handlers.tensorboard_logger import TensorboardLogger as IgniteTensorboardLogger
from torch import nn
from torch.nn.functional import cross_entropy

import glowplug
from glowplug_tensorboard import TensorboardLogger

EPOCHS, ROUNDS = 10, 9
DATA = [(torch.randn(32, 64), torch.randint(10, (32,))) for _ in range(300)]


def make_step():
    """Return a function that trains a new model on a batch, and returns the loss."""
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step(engine, batch):
        x, y = batch
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def timed(run):
    """Return the microseconds of an iteration of a whole run."""
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) / EPOCHS / len(DATA) * 1e6


def by_hand():
    """Measure the loop by hand."""
    step = make_step()

    def run():
        for _ in range(EPOCHS):
            for batch in DATA:
                step(None, batch)

    return timed(run)


def with_engine(library):
    """Return a function that measures an engine without handlers."""

    def measure():
        engine = library.Engine(make_step())
        return timed(lambda: engine.run(DATA, max_epochs=EPOCHS))

    return measure


def with_logger(library, logger_class, every):
    """Return a function that measures an engine that logs its loss to TensorBoard, including closing the logger."""

    def measure():
        with tempfile.TemporaryDirectory() as folder:
            logger = logger_class(log_dir=folder)
            engine = library.Engine(make_step())
            logger.attach_output_handler(
                engine,
                library.Events.ITERATION_COMPLETED(every=every),
                tag="training",
                output_transform=lambda loss: {"loss": loss},
            )

            def run():
                engine.run(DATA, max_epochs=EPOCHS)
                logger.close()

            return timed(run)

    return measure


def rows():
    """Yield the rows of this theme."""
    yield Row(
        "a whole small run, no logger",
        {FLOOR: by_hand, IGNITE: with_engine(ignite.engine), GLOWPLUG: with_engine(glowplug)},
        (Goal(1.03, FLOOR),),
        rounds=ROUNDS,
    )
    for what, every, at_most in (("every tenth iteration", 10, 1.05), ("each iteration", 1, 1.10)):
        yield Row(
            f"a whole small run, loss logged to TensorBoard at {what} (by hand: no logger)",
            {
                FLOOR: by_hand,
                IGNITE: with_logger(ignite.engine, IgniteTensorboardLogger, every),
                GLOWPLUG: with_logger(glowplug, TensorboardLogger, every),
            },
            (Goal(at_most, FLOOR),),
            rounds=ROUNDS,
        )
