"""Saves with digest and fsync: how long a save holds the step, and what an asynchronous save costs in the background.

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
from glowplug import Events
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
    """Return a variant that measures milliseconds in an empty folder on the disk of this file.

    Args:
        save: Function of the folder that returns the function to measure, and perhaps a function that is called afterwards.
    """

    def measure():
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            prepared = save(Path(folder))
            timed, finish = prepared if isinstance(prepared, tuple) else (prepared, lambda: None)
            started = time.perf_counter()
            timed()
            elapsed = time.perf_counter() - started
            finish()
            return elapsed * 1e3

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


def third_save(make, engine):
    """Return a function that prepares the third save of a handler, which also removes a checkpoint.

    A system provides fresh memory several times more slowly than memory that was just freed, here by removing the first
    checkpoint.
    """

    def prepare(folder):
        checkpoint = make(folder)
        for engine.state.iteration in (1, 2):
            checkpoint(engine)
        engine.state.iteration = 3
        return lambda: checkpoint(engine)

    return prepare


def into_kept_memory(state):
    """Return a function that prepares a copy of all tensors into memory that exists."""
    tensors = [*state["model"].values()]
    for moments in state["optimizer"]["state"].values():
        tensors += moments.values()
    kept = [tensor.clone() for tensor in tensors]

    def copy():
        for target, source in zip(kept, tensors, strict=True):
            target.copy_(source)

    return lambda folder: copy


def asynchronous(objects, *, until_durable):
    """Return a function that prepares the third asynchronous save of a handler."""

    def prepare(folder):
        engine = glowplug.Engine(lambda engine, batch: None)
        checkpoint = ModelCheckpoint(folder, to_save=objects, async_save=True)
        for engine.state.iteration in (1, 2):
            checkpoint(engine)
            checkpoint.close()
        engine.state.iteration = 3

        def save():
            checkpoint(engine)
            if until_durable:
                checkpoint.close()

        return save, checkpoint.close

    return prepare


def step_during_a_save(objects, *, saves):
    """Return a variant that measures the milliseconds of a training step, with or without a save in the background."""
    model, optimizer = objects["model"], objects["optimizer"]
    batch = torch.randn(64, WIDTH)

    def step(engine, _):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    def measure():
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            trainer, times = glowplug.Engine(step), []
            checkpoint = ModelCheckpoint(folder, to_save=objects, async_save=True)
            if saves:
                checkpoint.attach(
                    trainer, Events.ITERATION_COMPLETED(event_filter=lambda _, event: event in (1, 2, 3))
                )
            trainer.add_event_handler(Events.ITERATION_STARTED(once=3), checkpoint.close)
            trainer.add_event_handler(Events.ITERATION_STARTED, lambda: times.append(time.perf_counter()))
            trainer.run([None] * 5)
            # The step that begins when the third save no longer holds it.
            return (times[4] - times[3]) * 1e3

    return measure


def rows():
    """Yield the rows of this theme."""
    objects = training()
    state = {name: each.state_dict() for name, each in objects.items()}
    size = f"{MEGABYTES} MB"
    synchronous = in_folder(
        third_save(
            lambda folder: ModelCheckpoint(folder, to_save=objects),
            glowplug.Engine(lambda engine, batch: None),
        )
    )
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
                third_save(
                    lambda folder: IgniteCheckpoint(objects, IgniteDiskSaver(str(folder))),
                    ignite.engine.Engine(lambda engine, batch: None),
                )
            ),
            GLOWPLUG: synchronous,
        },
        (Goal(1.0, FLOOR),),
        unit="ms",
        rounds=ROUNDS,
    )
    yield Row(
        f"asynchronous save, {size}: time the step is held, whole handler (by hand: copy into kept memory)",
        {
            FLOOR: in_folder(into_kept_memory(state)),
            GLOWPLUG: in_folder(asynchronous(objects, until_durable=False)),
        },
        (Goal(1.5, FLOOR),),
        unit="ms",
        rounds=ROUNDS,
    )
    yield Row(
        f"asynchronous save, {size}, until it is on disk (by hand: glowplug's synchronous save)",
        {
            FLOOR: synchronous,
            GLOWPLUG: in_folder(asynchronous(objects, until_durable=True)),
        },
        (Goal(2.0, FLOOR),),
        unit="ms",
        rounds=ROUNDS,
    )
    yield Row(
        f"training step during an asynchronous save of {size} (by hand: without a save)",
        {
            FLOOR: step_during_a_save(objects, saves=False),
            GLOWPLUG: step_during_a_save(objects, saves=True),
        },
        (Goal(1.1, FLOOR),),
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
