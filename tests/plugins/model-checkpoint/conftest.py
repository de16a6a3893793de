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
