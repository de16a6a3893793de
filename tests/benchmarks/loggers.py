"""The cost of logging ten numbers per step: on the training thread, and on all threads."""

import importlib.util
import os
import tempfile
import time
from collections import deque
from pathlib import Path

import ignite.engine
from harness import FLOOR, GLOWPLUG, IGNITE, Goal, Row
from ignite.handlers.mlflow_logger import MLflowLogger as IgniteMLflowLogger
from ignite.handlers.tensorboard_logger import TensorboardLogger as IgniteTensorboardLogger

import glowplug
from glowplug_mlflow import MLflowLogger
from glowplug_tensorboard import TensorboardLogger

SCALARS = {f"value_{number}": number / 7 for number in range(10)}
STEPS = {IGNITE: 200, GLOWPLUG: 2_000}
MLFLOW_STEPS = {IGNITE: 5, GLOWPLUG: 500}
MLFLOW_TESTS = Path(__file__).parents[1] / "plugins" / "mlflow" / "conftest.py"


class Clock:
    """Adds up how long a step's end is held up by what is logged: made by the step, read after all other handlers."""

    phase = glowplug.Phase.CHECKPOINT

    def __init__(self):
        self.held = 0.0

    def step(self, engine, batch):
        """Return the numbers to log, and start the clock."""
        self.started = time.perf_counter()
        return SCALARS

    def __call__(self, engine):
        """Stop it."""
        self.held += time.perf_counter() - self.started


def logging_engine(library, logger):
    """Return an engine whose ten numbers are logged at each iteration, and the clock of that."""
    clock = Clock()
    engine = library.Engine(clock.step)
    event = library.Events.ITERATION_COMPLETED
    logger.attach_output_handler(engine, event, tag="training", output_transform=lambda output: output)
    engine.add_event_handler(event, clock)
    return engine, clock


def glowplug_logger(logger):
    """Return a logger that has reached its backend, which is no part of a step."""
    logger.ensure_open()
    return logger


def tensorboard(name, folder, timer):
    """Return what measures a number's cost with a timer: the caller's own, or that of all threads up to the end."""
    library = ignite.engine if name == IGNITE else glowplug
    steps = STEPS[name]

    def measure():
        with tempfile.TemporaryDirectory(dir=folder) as logs:
            logger = (
                IgniteTensorboardLogger(log_dir=logs)
                if name == IGNITE
                else glowplug_logger(TensorboardLogger(logs))
            )
            engine, _ = logging_engine(library, logger)
            started = timer()
            engine.run([None] * steps)
            logger.close()
            return (timer() - started) / steps / len(SCALARS) * 1e6

    return measure


def mlflow(name, uri):
    """Return what measures how long a step is held up by a number, in wall-clock time."""
    library = ignite.engine if name == IGNITE else glowplug
    steps = MLFLOW_STEPS[name]

    def measure():
        logger = (
            IgniteMLflowLogger(tracking_uri=uri)
            if name == IGNITE
            else glowplug_logger(MLflowLogger(uri, timeout=60))
        )
        engine, clock = logging_engine(library, logger)
        engine.run([None] * steps)
        logger.close()
        return clock.held / steps / len(SCALARS) * 1e6

    return measure


def queued():
    """Measure what it takes at least: a copy of the numbers, the time, and a place in a queue."""
    queue, steps = deque(), STEPS[GLOWPLUG]
    started = time.thread_time()
    for step in range(steps):
        queue.append((SCALARS.copy(), step, time.time()))
    return (time.thread_time() - started) / steps / len(SCALARS) * 1e6


def mlflow_server(folder):
    """Return a running server: the one of the plugin's own tests."""
    spec = importlib.util.spec_from_file_location("mlflow_tests", MLFLOW_TESTS)
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    return tests.Server(folder).start()


def rows():
    """Yield the rows of this theme."""
    with tempfile.TemporaryDirectory() as folder:
        yield Row(
            "TensorBoard, 10 numbers a step: processor time of the training thread, per number",
            {
                FLOOR: queued,
                **{name: tensorboard(name, folder, time.thread_time) for name in (IGNITE, GLOWPLUG)},
            },
            (Goal(0.5),),
        )
        yield Row(
            "TensorBoard, 10 numbers a step: processor time of all threads, per number",
            {name: tensorboard(name, folder, time.process_time) for name in (IGNITE, GLOWPLUG)},
            (Goal(1 / 5, IGNITE),),
        )
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        server = mlflow_server(Path(folder))
        try:
            yield Row(
                "MLflow server, 10 numbers a step: time for which the step is held, per number",
                {FLOOR: queued, **{name: mlflow(name, server.uri) for name in (IGNITE, GLOWPLUG)}},
                (Goal(1 / 500, IGNITE),),
                rounds=5,
            )
        finally:
            server.kill()
