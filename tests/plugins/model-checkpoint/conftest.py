"""Shared fixtures of the checkpoint tests."""

import pytest
import torch
from torch import nn

from glowplug.testing import FakeEngine


@pytest.fixture
def fake():
    """An engine at iteration 6 of epoch 3."""
    engine = FakeEngine()
    engine.state.iteration, engine.state.epoch = 6, 3
    return engine


@pytest.fixture
def model():
    """A small model."""
    torch.manual_seed(0)
    return nn.Linear(2, 1)


@pytest.fixture
def names():
    """A function that lists the files of a folder."""
    return lambda folder: sorted(path.name for path in folder.iterdir())


@pytest.fixture
def memory_store():
    """A save handler without metadata, which keeps checkpoints in memory."""

    class MemoryStore:
        def __init__(self):
            self.files = {}

        def save(self, checkpoint, filename, metadata=None):
            self.files[filename] = checkpoint

        def load(self, filename):
            return self.files[filename]

        def list(self):
            return list(self.files)

        def remove(self, filename):
            del self.files[filename]

        def locate(self, filename):
            return f"acme://{filename}"

    return MemoryStore()
