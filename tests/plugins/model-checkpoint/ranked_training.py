"""A training with DDP whose ranks draw their own random numbers and have their own data."""

import os
import random
import warnings

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning
from glowplug_model_checkpoint import ModelCheckpoint


class Training:
    """A trainer that records, for each iteration, its batch, random numbers and loss."""

    def __init__(self, folder, **options):
        rank = dist.get_rank()
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.model = DistributedDataParallel(model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        # From here on, each rank has its own random numbers.
        torch.manual_seed(100 + rank)
        random.seed(100 + rank)
        np.random.seed(100 + rank)  # noqa: NPY002 - the global generator is what is resumed
        data = TensorDataset(torch.arange(60.0).reshape(20, 3).sin(), torch.arange(20.0))
        self.sampler = DistributedSampler(data, seed=5)
        self.loader = DataLoader(data, batch_size=2, sampler=self.sampler)
        self.records = []
        self.trainer = Engine(self.step)
        self.trainer.add_event_handler(
            Events.EPOCH_STARTED, lambda engine: self.sampler.set_epoch(engine.state.epoch)
        )
        self.to_save = {"model": self.model, "optimizer": self.optimizer, "trainer": self.trainer}
        self.checkpoint = ModelCheckpoint(
            folder, n_saved=None, require_empty=False, **{"to_save": self.to_save, **options}
        )
        self.checkpoint.attach(self.trainer, Events.ITERATION_COMPLETED)

    def step(self, engine, batch):
        """Train on one batch, with noise from all generators."""
        values, numbers = batch
        noise = random.random() + float(np.random.random()) + float(torch.randn(()))  # noqa: NPY002 - as above
        self.optimizer.zero_grad()
        loss = (self.model(values + noise) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        self.records.append([engine.state.iteration, numbers.tolist(), noise, loss.item()])
        return loss.item()

    def run(self, epochs, stop_at=None):
        """Train; at the iteration ``stop_at``, end the process at once."""
        if stop_at is not None:
            # Registered after the checkpoint handler, in the same phase.
            self.trainer.add_event_handler(
                ModelCheckpoint.SAVED_CHECKPOINT,
                lambda engine: os._exit(0) if engine.state.iteration == stop_at else None,
            )
        self.trainer.run(self.loader, max_epochs=epochs)
        return self

    def result(self):
        """Return the records and the final weights."""
        weights = [value.flatten().tolist() for value in self.model.state_dict().values()]
        return {"records": self.records, "weights": weights}


def warnings_of(function):
    """Call a function, and return its result and the texts of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function()
    return result, [str(each.message) for each in caught if each.category is GlowplugWarning]
