"""The time for which a synchronous save holds the step, with digest and fsync.

The state is that of a model with AdamW; ``GLOWPLUG_CHECKPOINT_MB`` sets its size in megabytes (1200 for 100 M parameters).
"""

import os
import tempfile
import time
from pathlib import Path

import ignite.engine
import torch
from harness import FLOOR, GLOWPLUG, IGNITE, Goal, Row
from ignite.handlers import Checkpoint as IgniteCheckpoint, DiskSaver as IgniteDiskSaver
from torch import nn

import glowplug
from glowplug_model_checkpoint import DiskSaver, ModelCheckpoint
from glowplug_model_checkpoint.digests import new_hasher

MEGABYTES = int(os.environ.get("GLOWPLUG_CHECKPOINT_MB", "240"))
ROUNDS = 7
# Twelve bytes per parameter: the weight and the two moments of AdamW.
LAYERS, WIDTH = 10, round((MEGABYTES * 1e6 / 12 / 10) ** 0.5)


def training():
    """Return a model and its optimizer after one step."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return {"model": model, "optimizer": optimizer}


def in_folder(save):
    """Return a variant that measures the milliseconds of ``save(folder)`` in an empty folder on the disk of this file."""

    def measure():
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            timed = save(Path(folder))
            started = time.perf_counter()
            timed()
            return (time.perf_counter() - started) * 1e3

    return measure


def by_hand(state):
    """Return a function that prepares ``torch.save`` with fsync."""

    def prepare(folder):
        def save():
            with (folder / "checkpoint.pt").open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())

        return save

    return prepare


def second_save(make, engine):
    """Return a function that prepares the second save of a handler, which also removes the first checkpoint."""

    def prepare(folder):
        checkpoint = make(folder)
        engine.state.iteration = 1
        checkpoint(engine)
        engine.state.iteration = 2
        return lambda: checkpoint(engine)

    return prepare


def rows():
    """Yield the rows of this theme."""
    objects = training()
    state = {name: each.state_dict() for name, each in objects.items()}
    size = f"{MEGABYTES} MB"
    yield Row(
        f"save {size} (by hand: torch.save and fsync; glowplug: with a digest)",
        {
            FLOOR: in_folder(by_hand(state)),
            GLOWPLUG: in_folder(lambda folder: lambda: DiskSaver(folder).save(state, "checkpoint.pt")),
        },
        (Goal(0.7, FLOOR),),
        unit="ms",
        rounds=ROUNDS,
    )
    yield Row(
        f"whole handler, {size}, one checkpoint kept (ignite: no fsync, no digest)",
        {
            FLOOR: in_folder(by_hand(state)),
            IGNITE: in_folder(
                second_save(
                    lambda folder: IgniteCheckpoint(objects, IgniteDiskSaver(str(folder))),
                    ignite.engine.Engine(lambda engine, batch: None),
                )
            ),
            GLOWPLUG: in_folder(
                second_save(
                    lambda folder: ModelCheckpoint(folder, to_save=objects),
                    glowplug.Engine(lambda engine, batch: None),
                )
            ),
        },
        (Goal(1.0, FLOOR),),
        unit="ms",
        rounds=ROUNDS,
    )
    content = memoryview(torch.randn(MEGABYTES * 250_000).numpy()).cast("B")

    def digest():
        started = time.perf_counter()
        hasher = new_hasher("xxh3_128")
        hasher.update(content)
        hasher.digest()
        return (time.perf_counter() - started) * 1e3

    yield Row(
        f"digest alone of {size} (by hand: torch.save and fsync)",
        {FLOOR: in_folder(by_hand(state)), GLOWPLUG: digest},
        (Goal(0.1, FLOOR),),
        unit="ms",
        rounds=ROUNDS,
    )
