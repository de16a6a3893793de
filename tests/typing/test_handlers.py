"""Every first-party handler, created through both import paths; mypy --strict checks it, pytest runs the imports."""

from pathlib import Path

import torch
from torch import nn

import glowplug as ignite
import glowplug_early_stopping
import glowplug_ema
import glowplug_jsonl
import glowplug_lr_finder
import glowplug_mlflow
import glowplug_model_checkpoint
import glowplug_progress
import glowplug_schedulers
import glowplug_tensorboard
import glowplug_terminate_on_nan
import glowplug_timers
import glowplug_wandb
from glowplug.handlers import (
    BasicTimeProfiler,
    Checkpoint,
    CsvLogger,
    DiskSaver,
    EarlyStopping,
    EMAHandler,
    ExpStateScheduler,
    FastaiLRFinder,
    HandlersTimeProfiler,
    JsonLinesLogger,
    KeepBest,
    KeepLast,
    LRScheduler,
    MLflowLogger,
    ModelCheckpoint,
    PiecewiseLinear,
    ProfilerHandler,
    ProgressBar,
    SWAHandler,
    TensorboardLogger,
    TerminateOnNan,
    TimeLimit,
    Timer,
    WandbLogger,
)


def create_from_core(folder: Path, engine: ignite.Engine) -> list[object]:
    """Create each handler through glowplug.handlers."""
    stopping: EarlyStopping = EarlyStopping(patience=3, score_function="accuracy", trainer=engine)
    checkpoint: ModelCheckpoint = ModelCheckpoint(folder, keep=KeepBest(2, by="accuracy") | KeepLast(1))
    saver: DiskSaver = DiskSaver(folder)
    return [
        stopping,
        checkpoint,
        saver,
        Checkpoint({"trainer": engine}, saver),
        EMAHandler(nn.Linear(1, 1), momentum=0.1, handle_buffers="update"),
        SWAHandler(nn.Linear(1, 1), start_epoch=2),
        FastaiLRFinder(),
        CsvLogger(folder / "run.csv"),
        JsonLinesLogger(folder / "run.jsonl", timeout=5),
        MLflowLogger(),
        WandbLogger("digits", timeout=5, mode="offline"),
        ProgressBar(disable=True),
        ExpStateScheduler(1.0, 0.5, "temperature", create_new=True),
        TensorboardLogger(log_dir=folder),
        TerminateOnNan(),
        ignite.handlers.TerminateOnNan(),
        BasicTimeProfiler(),
        HandlersTimeProfiler(),
        ProfilerHandler(folder, active=2, record_shapes=True),
        TimeLimit(minutes=30),
        Timer(average=True).attach(engine, step=ignite.Events.ITERATION_COMPLETED),
    ]


def create_from_plugins(folder: Path, engine: ignite.Engine) -> list[object]:
    """Create each handler through the package of its plugin."""
    saver = glowplug_model_checkpoint.DiskSaver(folder)
    return [
        glowplug_early_stopping.EarlyStopping(patience=3, score_function="accuracy", trainer=engine),
        glowplug_model_checkpoint.ModelCheckpoint(folder),
        saver,
        glowplug_model_checkpoint.Checkpoint({"trainer": engine}, saver),
        glowplug_ema.EMAHandler(nn.Linear(1, 1)),
        glowplug_ema.SWAHandler(nn.Linear(1, 1)),
        glowplug_lr_finder.LRFinder(),
        glowplug_jsonl.CsvLogger(folder / "run.csv"),
        glowplug_jsonl.JsonLinesLogger(folder / "run.jsonl"),
        glowplug_mlflow.MLflowLogger(),
        glowplug_wandb.WandbLogger("digits"),
        glowplug_progress.ProgressBar(disable=True),
        glowplug_schedulers.ExpStateScheduler(1.0, 0.5, "temperature", create_new=True),
        glowplug_tensorboard.TensorboardLogger(log_dir=folder),
        glowplug_terminate_on_nan.TerminateOnNan(),
        glowplug_timers.BasicTimeProfiler(),
        glowplug_timers.HandlersTimeProfiler(),
        glowplug_timers.ProfilerHandler(folder),
        glowplug_timers.TimeLimit(28800),
        glowplug_timers.Timer(),
    ]


def schedule(optimizer: torch.optim.SGD, engine: ignite.Engine) -> list[ignite.RemovableEventHandle]:
    """Attach schedulers of an optimizer."""
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    scheduler: glowplug_schedulers.ConcatScheduler = glowplug_schedulers.create_lr_scheduler_with_warmup(
        decay, 0.0, 10
    )
    return [
        scheduler.attach(engine),
        LRScheduler(decay).attach(engine, event_name=ignite.Events.EPOCH_STARTED),
        PiecewiseLinear(optimizer, "lr", [(0, 0.0), (10, 1.0)]).attach(engine),
    ]


def test_both_paths_give_the_same_class() -> None:
    """A class is the same object through both import paths."""
    assert EarlyStopping is glowplug_early_stopping.EarlyStopping
    assert LRScheduler is glowplug_schedulers.LRScheduler
    assert EMAHandler is glowplug_ema.EMAHandler
    assert ModelCheckpoint is glowplug_model_checkpoint.ModelCheckpoint
    assert TensorboardLogger is glowplug_tensorboard.TensorboardLogger
    assert ignite.handlers.TerminateOnNan is TerminateOnNan
