"""The cost that an attached handler adds to an iteration, compared with an engine that has no handlers."""

import tempfile
from pathlib import Path

import torch
from harness import FLOOR, GLOWPLUG, Goal, Row, per_iteration

from glowplug import Engine, Events
from glowplug_early_stopping import EarlyStopping
from glowplug_ema import EMAHandler, SWAHandler
from glowplug_metrics import EpochOutputStore
from glowplug_model_checkpoint import ModelCheckpoint
from glowplug_monitors import DataWait, DeviceUsage, GradientNorm, LearningRate, Throughput
from glowplug_schedulers import CosineAnnealingScheduler, LRScheduler
from glowplug_timers import BasicTimeProfiler, HandlersTimeProfiler, TimeLimit, Timer

ITERATIONS, ROUNDS = 50_000, 15
# A filter that no iteration of a round passes, so that a round measures only iterations at which the handler does not run.
RARELY = Events.ITERATION_COMPLETED(every=2 * ITERATIONS)
MODEL = torch.nn.Linear(64, 10)
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)


def torch_scheduler(engine):
    """Attach a scheduler of torch that steps once per epoch."""
    scheduler = torch.optim.lr_scheduler.ExponentialLR(OPTIMIZER, gamma=0.9)
    LRScheduler(scheduler).attach(engine, event_name=Events.EPOCH_STARTED)


def cosine(engine):
    """Attach a schedule with one value per epoch."""
    CosineAnnealingScheduler(OPTIMIZER, "lr", 0.1, 0.01, cycle_size=10).attach(
        engine, event_name=Events.EPOCH_STARTED
    )


def early_stopping(engine):
    """Attach early stopping to an evaluator, which stops this engine."""
    engine.state.evaluator = Engine(lambda *_: None)  # the attribute keeps it alive
    EarlyStopping(patience=3, score_function="accuracy", trainer=engine).attach(engine.state.evaluator)


def checkpoint(folder):
    """Return a function that attaches a checkpoint."""

    def attach(engine):
        ModelCheckpoint(folder, filename_prefix="bench", require_empty=False).attach(
            engine, RARELY, {"model": MODEL}
        )

    return attach


def detached(profiler_class):
    """Return a function that attaches a profiler and detaches it."""
    return lambda engine: profiler_class().attach(engine).remove()


def row(what, attach, goal=None):
    """Return the row of an engine with a handler; the floor is an engine without handlers."""

    def make(attach=None):
        engine = Engine(lambda engine, batch: None)
        if attach is not None:
            attach(engine)
        return engine.run

    variants = {
        FLOOR: per_iteration(make, ITERATIONS),
        GLOWPLUG: per_iteration(lambda: make(attach), ITERATIONS),
    }
    goals = () if goal is None else (goal,)
    return Row(f"{what} (by hand: no handlers)", variants, goals, rounds=ROUNDS, is_difference=True)


def idle(folder):
    """Return the handlers that have nothing to do at an iteration, and functions that attach them."""
    return {
        "`LRScheduler` once per epoch": torch_scheduler,
        "`CosineAnnealingScheduler` once per epoch": cosine,
        "`EMAHandler` between two updates": lambda engine: EMAHandler(MODEL).attach(
            engine, event_name=RARELY
        ),
        "`SWAHandler` once per epoch": lambda engine: SWAHandler(MODEL).attach(engine),
        "`Timer` of the whole run": lambda engine: Timer().attach(engine),
        "`LearningRate` between two values": lambda engine: LearningRate(OPTIMIZER).attach(
            engine, event_name=RARELY
        ),
        "`GradientNorm` between two values": lambda engine: GradientNorm(MODEL).attach(
            engine, event_name=RARELY
        ),
        "`DeviceUsage` once per epoch": lambda engine: DeviceUsage().attach(engine),
        "`ModelCheckpoint` between two saves": checkpoint(folder),
        "`EarlyStopping` of an evaluator": early_stopping,
        "`BasicTimeProfiler`, detached": detached(BasicTimeProfiler),
        "`HandlersTimeProfiler`, detached": detached(HandlersTimeProfiler),
        "a handler with `every_seconds=60`": lambda engine: engine.add_event_handler(
            Events.ITERATION_COMPLETED(every_seconds=60), lambda engine: None
        ),
        "`TimeLimit`": lambda engine: TimeLimit(hours=1).attach(engine),
    }


def busy():
    """Return the handlers that do something at every iteration, and functions that attach them."""
    return {
        "`EpochOutputStore`": lambda engine: EpochOutputStore().attach(engine),
        "`Throughput` once per epoch": lambda engine: Throughput(lambda batch: 1).attach(
            engine, event_name=Events.EPOCH_COMPLETED
        ),
        "`DataWait` once per epoch": lambda engine: DataWait().attach(
            engine, event_name=Events.EPOCH_COMPLETED
        ),
        "`BasicTimeProfiler`, the only handler": lambda engine: BasicTimeProfiler().attach(engine),
        "`HandlersTimeProfiler`, the only handler": lambda engine: HandlersTimeProfiler().attach(engine),
    }


def rows():
    """Yield the rows of this theme."""
    with tempfile.TemporaryDirectory() as folder:
        for what, attach in idle(Path(folder)).items():
            yield row(f"{what}, idle", attach, Goal(0.1, above=FLOOR))
    for what, attach in busy().items():
        yield row(f"{what}, at work", attach)
