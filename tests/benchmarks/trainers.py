"""The cost of a run and of the import, compared with Lightning's ``Trainer`` and Keras' ``fit`` on its torch backend.

A library that is not installed is skipped.
"""

import functools
import importlib.util
import logging
import os
import sys
import time

import torch
from harness import FLOOR, GLOWPLUG, KERAS, LIGHTNING, Row, in_new_process, per_iteration
from imports import IMPORT
from sklearn.datasets import load_digits
from torch import nn

import glowplug

os.environ["KERAS_BACKEND"] = "torch"
# Lightning reports the processors and the end of each run.
logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)

ITERATIONS, FEW = 100_000, 3_000  # of a round; few for the libraries whose iteration takes long
EPOCHS, BATCH_SIZE, LEARNING_RATE = 5, 32, 0.1
AT_LEAST = 0.9  # accuracy after training
ROUNDS = 7


@functools.cache
def digits():
    """Return the images, scaled to 0 to 1, and the labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


@functools.cache
def batches():
    """Return the images and labels in batches."""
    images, labels = digits()
    return list(zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True))


def make_model():
    """Return a new model."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def make_optimizer(model):
    """Return the optimizer of a model."""
    return torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)


def timed(run, predict):
    """Return the milliseconds of a run, after which the predictions must be right."""
    started = time.perf_counter()
    run()
    taken = time.perf_counter() - started
    images, labels = digits()
    with torch.no_grad():
        accuracy = (predict(images).argmax(1) == labels).float().mean()
    assert accuracy > AT_LEAST, accuracy
    return taken * 1e3


def cpu_time(make, iterations):
    """Return a variant that measures CPU time: other work would delay the long rounds more often than the short ones."""
    return per_iteration(make, iterations, time.process_time)


def step(engine, batch):
    """Do nothing."""


def loop_by_hand(data):
    """Call the empty step for each batch."""
    for batch in data:
        step(None, batch)


def train_by_hand():
    """Measure a loop that trains."""
    model, loss_function = make_model(), nn.CrossEntropyLoss()
    optimizer = make_optimizer(model)

    def run():
        model.train()
        for _ in range(EPOCHS):
            for x, y in batches():
                optimizer.zero_grad()
                loss_function(model(x), y).backward()
                optimizer.step()

    return timed(run, model)


def train_with_glowplug():
    """Measure a supervised trainer."""
    model = make_model()
    trainer = glowplug.create_supervised_trainer(model, make_optimizer(model), nn.CrossEntropyLoss())
    return timed(lambda: trainer.run(batches(), max_epochs=EPOCHS), model)


class Batches:
    """Batches for Lightning, which takes a list for several data loaders."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def lightning_trainer(epochs):
    """Return a trainer of Lightning, in the mode in which it measures its own overhead: all optional features are off."""
    from lightning import Trainer

    return Trainer(max_epochs=epochs, accelerator="cpu", barebones=True)


def empty_lightning():
    """Return a function that runs Lightning with an empty step."""
    from lightning import LightningModule

    class Empty(LightningModule):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            """Do nothing."""

        def configure_optimizers(self):
            """Return no optimizer."""

    trainer, module = lightning_trainer(1), Empty()
    return lambda data: trainer.fit(module, Batches(data))


def train_with_lightning():
    """Measure a trainer of Lightning."""
    from lightning import LightningModule

    class Digits(LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.loss_function = make_model(), nn.CrossEntropyLoss()

        def training_step(self, batch, batch_idx):
            x, y = batch
            return self.loss_function(self.model(x), y)

        def configure_optimizers(self):
            return make_optimizer(self.model)

    module, trainer = Digits(), lightning_trainer(EPOCHS)
    return timed(lambda: trainer.fit(module, Batches(batches())), module.model)


def loader(batches):
    """Return a data loader, which Keras reads faster than arrays and its own kinds of data."""
    return torch.utils.data.DataLoader(batches, batch_size=None)


def empty_keras():
    """Return a function that runs Keras with an empty step, as many times as the data is long."""
    import keras

    class Empty(keras.Model):
        def call(self, inputs):
            return inputs

        def train_step(self, data):
            return {}

    model = Empty()
    model.compile()
    # Keras needs tensors.
    return lambda data: model.fit(loader([torch.zeros(1)] * len(data)), verbose=0)


def train_with_keras():
    """Measure a model of Keras, with the layers, the loss and the optimizer of Keras."""
    import keras

    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
    )
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return timed(lambda: model.fit(loader(batches()), epochs=EPOCHS, verbose=0), model)


def import_of(names):
    """Return a function that measures the import of these modules after torch, in a new process."""
    return lambda: in_new_process(IMPORT, names, "torch")


def installed(variants):
    """Return the variants without those of libraries that are not installed."""
    return {
        name: variant
        for name, variant in variants.items()
        if name not in (LIGHTNING, KERAS) or importlib.util.find_spec(name)
    }


def rows():
    """Yield the rows of this theme."""
    for name in (LIGHTNING, KERAS):
        if not importlib.util.find_spec(name):
            print(f"skipped: {name} is not installed", file=sys.stderr)
    yield Row(
        "empty step, CPU time (by hand: a loop that only calls it)",
        installed(
            {
                FLOOR: cpu_time(lambda: loop_by_hand, ITERATIONS),
                LIGHTNING: cpu_time(empty_lightning, FEW),
                KERAS: cpu_time(empty_keras, FEW),
                GLOWPLUG: cpu_time(lambda: glowplug.Engine(step).run, ITERATIONS),
            }
        ),
        rounds=ROUNDS,
    )
    yield Row(
        f"training on digits, {EPOCHS} epochs of {len(batches())} batches",
        installed(
            {
                FLOOR: train_by_hand,
                LIGHTNING: train_with_lightning,
                KERAS: train_with_keras,
                GLOWPLUG: train_with_glowplug,
            }
        ),
        unit="ms",
        rounds=ROUNDS,
    )
    yield Row(
        "import, after torch was imported",
        installed(
            {
                LIGHTNING: import_of("lightning"),
                KERAS: import_of("keras"),
                GLOWPLUG: import_of("glowplug,glowplug.engine,glowplug.supervised"),
            }
        ),
        unit="ms",
        rounds=ROUNDS,
    )
