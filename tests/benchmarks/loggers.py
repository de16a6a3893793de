"""The cost of logging at each step: on the training thread, and on all threads."""

import os
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import ignite.engine
import torch
from harness import FLOOR, GLOWPLUG, IGNITE, Goal, Row
from ignite.handlers.mlflow_logger import MLflowLogger as IgniteMLflowLogger
from ignite.handlers.tensorboard_logger import TensorboardLogger as IgniteTensorboardLogger

import glowplug
from glowplug_jsonl import JsonLinesLogger
from glowplug_mlflow import MLflowLogger
from glowplug_tensorboard import TensorboardLogger

sys.path.append(str(Path(__file__).parents[1] / "support"))
from mlflow_server import Server

SCALARS = {f"value_{number}": number / 7 for number in range(10)}
STEPS = {IGNITE: 200, GLOWPLUG: 10_000}
MLFLOW_STEPS = {IGNITE: 5, GLOWPLUG: 500}
DURABLE_STEPS = 500
SCALAR = {"loss": 0.5}
LOSS = {"loss": torch.tensor(0.5)}


class Clock:
    """Clock that adds up the time from the end of each step to the end of its logging."""

    phase = glowplug.Phase.CHECKPOINT

    def __init__(self, numbers):
        self.numbers = numbers
        self.held = 0.0

    def step(self, engine, batch):
        """Return the numbers to log, and start the clock."""
        self.started = time.perf_counter()
        return self.numbers

    def __call__(self, engine):
        """Stop it."""
        self.held += time.perf_counter() - self.started


def logging_engine(library, logger, numbers):
    """Return an engine that logs numbers at each iteration, and its clock."""
    clock = Clock(numbers)
    engine = library.Engine(clock.step)
    event = library.Events.ITERATION_COMPLETED
    logger.attach_output_handler(engine, event, tag="training", output_transform=lambda output: output)
    engine.add_event_handler(event, clock)
    return engine, clock


def glowplug_logger(logger):
    """Return a logger with an open backend, since opening is not part of a step."""
    logger.ensure_open()
    return logger


def tensorboard(name, folder, timer, numbers=SCALARS):
    """Return a function that measures the processor time per number, on one thread or all threads."""
    library = ignite.engine if name == IGNITE else glowplug
    steps = STEPS[name]

    def measure():
        with tempfile.TemporaryDirectory(dir=folder) as logs:
            logger = (
                IgniteTensorboardLogger(log_dir=logs)
                if name == IGNITE
                else glowplug_logger(TensorboardLogger(logs))
            )
            engine, _ = logging_engine(library, logger, numbers)
            started = timer()
            engine.run([None] * steps)
            logger.close()
            return (timer() - started) / steps / len(numbers) * 1e6

    return measure


def log_call(folder, make, scalars, steps, timer):
    """Return a function that measures, by a timer, the time of ``log_scalars`` of the logger that ``make`` returns."""

    def measure():
        with (
            tempfile.TemporaryDirectory(dir=folder) as logs,
            glowplug_logger(make(logs)) as logger,
        ):
            started = timer()
            for step in range(steps):
                logger.log_scalars(scalars, step)
            return (timer() - started) / steps * 1e6

    return measure


def mlflow(name, uri):
    """Return a function that measures the wall-clock time per number that a step waits."""
    library = ignite.engine if name == IGNITE else glowplug
    steps = MLFLOW_STEPS[name]

    def measure():
        logger = (
            IgniteMLflowLogger(tracking_uri=uri)
            if name == IGNITE
            else glowplug_logger(MLflowLogger(uri, timeout=60))
        )
        engine, clock = logging_engine(library, logger, SCALARS)
        engine.run([None] * steps)
        logger.close()
        return clock.held / steps / len(SCALARS) * 1e6

    return measure


def queued():
    """Measure the lower bound: copying the numbers, reading the clock and appending to a queue."""
    queue, steps = deque(), STEPS[GLOWPLUG]
    started = time.thread_time()
    for step in range(steps):
        queue.append((SCALARS.copy(), step, time.time()))
    return (time.thread_time() - started) / steps / len(SCALARS) * 1e6


def rows():
    """Yield the rows of this theme."""
    with tempfile.TemporaryDirectory() as folder:
        yield Row(
            "TensorBoard, 10 numbers per step: CPU time of the training thread, per number",
            {
                FLOOR: queued,
                **{name: tensorboard(name, folder, time.thread_time) for name in (IGNITE, GLOWPLUG)},
            },
            (Goal(0.5),),
        )
        yield Row(
            "TensorBoard, 10 numbers per step: CPU time of all threads, per number",
            {name: tensorboard(name, folder, time.process_time) for name in (IGNITE, GLOWPLUG)},
            (Goal(1 / 5, IGNITE),),
        )
        for thread, timer, goals in (
            ("the training thread", time.thread_time, (Goal(2),)),
            ("all threads", time.process_time, (Goal(12), Goal(1 / 12.5, IGNITE))),
        ):
            yield Row(
                f"TensorBoard, one tensor at each step: CPU time of {thread}, per record",
                {name: tensorboard(name, folder, timer, LOSS) for name in (IGNITE, GLOWPLUG)},
                goals,
            )
        yield Row(
            "TensorBoard, `log_scalars` with one tensor: CPU time of the calling thread, per call",
            {GLOWPLUG: log_call(folder, TensorboardLogger, LOSS, STEPS[GLOWPLUG], time.thread_time)},
            (Goal(2),),
        )
        yield Row(
            "JSON Lines, `durable=True`: wall-clock time of `log_scalars`, per call",
            {
                GLOWPLUG: log_call(
                    folder,
                    lambda logs: JsonLinesLogger(Path(logs, "run.jsonl"), durable=True),
                    SCALAR,
                    DURABLE_STEPS,
                    time.perf_counter,
                )
            },
        )
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        server = Server(Path(folder)).start()
        try:
            yield Row(
                "MLflow server, 10 numbers per step: delay of the step, per number",
                {FLOOR: queued, **{name: mlflow(name, server.uri) for name in (IGNITE, GLOWPLUG)}},
                (Goal(1 / 500, IGNITE),),
                rounds=5,
            )
            yield Row(
                "MLflow server, `durable=True`: wall-clock time of `log_scalars`, per call",
                {
                    GLOWPLUG: log_call(
                        folder,
                        lambda logs: MLflowLogger(server.uri, durable=True, timeout=60, spool=logs),
                        SCALAR,
                        DURABLE_STEPS,
                        time.perf_counter,
                    )
                },
                rounds=5,
            )
        finally:
            server.kill()
