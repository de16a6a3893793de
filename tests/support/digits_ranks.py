"""The digits job of ``docs/examples/digits.py`` on several ranks, with checkpoints and loggers, for the chaos test."""

import datetime as dt
import hashlib
import os
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from glowplug import Engine, Events, RunStart, create_supervised_evaluator, create_supervised_trainer
from glowplug.exceptions import GlowplugWarning
from glowplug.loggers import OptimizerParamsHandler, OutputHandler, global_step_from_engine
from glowplug_metrics import Accuracy, Loss, RunningAverage
from glowplug_mlflow import MLflowLogger
from glowplug_model_checkpoint import KeepLast, ModelCheckpoint
from glowplug_preemption import Preemption
from glowplug_tensorboard import TensorboardLogger

sys.path.append(str(Path(__file__).parents[2] / "docs" / "examples"))

from digits import load_data, make_model

BATCH_SIZE = 32
# With 23 iterations each.
EPOCHS = 6
# Ranks that hang because one of them has failed are ended after this time.
GLOO_LIMIT = 30


def digest_of(state):
    """Return a digest of all tensors of a model's state."""
    total = hashlib.sha256()
    for name, value in state.items():
        total.update(name.encode() + value.numpy().tobytes())
    return total.hexdigest()


def train(folder, *, rank, size, store, output, tracking_uri, experiment, resume, pace, async_save):
    """Train as one of several ranks; each step takes ``pace`` seconds longer than it needs."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), GLOO_SOCKET_IFNAME="lo")
    limit = dt.timedelta(seconds=GLOO_LIMIT)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=limit)
    # This is what damaged checkpoints lead to; other warnings are errors.
    warnings.filterwarnings("default", "skipped the checkpoint", GlowplugWarning)
    checkpoints = Path(output, "checkpoints")
    loaders = make_loaders()
    torch.manual_seed(12)
    model = DistributedDataParallel(make_model())
    # From here on, each rank has its own random numbers.
    torch.manual_seed(100 + rank)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_fn = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, optimizer, loss_fn)
    evaluator = create_supervised_evaluator(model, metrics={"accuracy": Accuracy(), "loss": Loss(loss_fn)})
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(loaders[1]))
    note_iterations(trainer, folder, pace)
    loggers = [
        TensorboardLogger(Path(output, "tensorboard"), timeout=30),
        MLflowLogger(tracking_uri, experiment_name=experiment, timeout=30),
    ]
    attach_loggers(loggers, trainer, evaluator, optimizer)
    attach_checkpoints(trainer, evaluator, model, optimizer, checkpoints, resume, async_save)
    trainer.attach(Preemption())
    trainer.run(loaders[0], max_epochs=EPOCHS)
    for logger in loggers:
        logger.close()
    dist.destroy_process_group()
    best = ModelCheckpoint.best(checkpoints, "best")
    return {
        "iterations": trainer.state.iteration,
        "weights": digest_of(model.module.state_dict()),
        "best": digest_of(torch.load(best, weights_only=True)),
    }


def make_loaders():
    """Return the loaders for training, with a different shuffled half of the data on each rank, and for validation."""
    training, validation = load_data(seed=12)
    sampler = DistributedSampler(training, seed=5)
    return (
        DataLoader(training, batch_size=BATCH_SIZE, sampler=sampler),
        DataLoader(validation, batch_size=90, sampler=DistributedSampler(validation, shuffle=False)),
    )


def note_iterations(trainer: Engine, folder, pace):
    """Note the number and the time of each iteration in a file."""
    calls = os.open(folder / f"calls-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine):
        os.write(calls, b"%d %.6f\n" % (engine.state.iteration, time.time()))
        time.sleep(pace)


def attach_loggers(loggers, trainer, evaluator, optimizer):
    """Log the loss of each iteration, the learning rate of each epoch, and the metrics of each validation."""
    step = global_step_from_engine(trainer)
    for logger in loggers:
        logger.attach(
            trainer,
            Events.ITERATION_COMPLETED,
            OutputHandler(
                "training", output_transform=lambda loss: {"batch_loss": loss}, metric_names=["loss"]
            ),
        )
        logger.attach(trainer, Events.EPOCH_STARTED, OptimizerParamsHandler(optimizer))
        logger.attach(
            evaluator,
            Events.COMPLETED,
            OutputHandler("validation", metric_names="all", global_step_transform=step),
        )


def attach_checkpoints(trainer, evaluator, model, optimizer, folder, resume, async_save):
    """Save the model with the best accuracy, and everything every 10 iterations and after each epoch."""
    best = ModelCheckpoint(
        folder,
        "best",
        score_name="accuracy",
        require_empty=False,
        to_save={"model": model},
        async_save=async_save,
    )
    best.attach(evaluator, Events.COMPLETED)
    last = ModelCheckpoint(
        folder,
        "last",
        keep=KeepLast(2),
        resume="auto" if resume else None,
        async_save=async_save,
        to_save={"model": model, "optimizer": optimizer, "trainer": trainer},
    )
    # The checkpoint before the first iteration identifies the loggers' runs.
    is_new = Events.STARTED(event_filter=lambda engine, _: engine.state.run_start is RunStart.NEW)
    last.attach(trainer, is_new | Events.ITERATION_COMPLETED(every=10) | Events.EPOCH_COMPLETED)
