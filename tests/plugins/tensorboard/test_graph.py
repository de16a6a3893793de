"""Tests of ``TensorboardLogger.log_graph``."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from glowplug_tensorboard import TensorboardLogger


def nodes(folder):
    """Return the names of the nodes of the logged graph."""
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {node.name for node in accumulator.Graph().node}


def seed(number):
    """Seed the generators of torch, Python and numpy."""
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - the generator that log_graph must restore


def numbers():
    """Return the next random numbers of torch, Python and numpy."""
    return torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002


class Noisy(nn.Module):
    """A model whose mode, buffers and random numbers a trace would change."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.frozen = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.register_buffer("calls", torch.zeros(()))
        self.frozen.eval()

    def forward(self, x):
        self.calls += 1
        random.random()
        np.random.rand()  # noqa: NPY002
        return self.frozen(self.norm(self.first(x))) + torch.rand(3)


class TwoInputs(nn.Module):
    """A model with two inputs, whose output is a dict."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)

    def forward(self, x, y):
        return {"sum": self.first(x) + y}


def test_graph(tmp_path):
    """TensorBoard's reader finds the layers of the model, whether or not its output is a tensor."""
    with TensorboardLogger(tmp_path / "tensor") as logger:
        logger.log_graph(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.zeros(2, 4))
    assert any("Linear[0]" in name for name in nodes(tmp_path / "tensor"))
    with TensorboardLogger(tmp_path / "dict") as logger:
        logger.log_graph(TwoInputs(), (torch.zeros(2, 4), torch.zeros(2, 3)))
    assert any("Linear[first]" in name for name in nodes(tmp_path / "dict"))


def test_graph_changes_nothing(tmp_path):
    """After log_graph, modes of layers, buffers, gradients and the next random numbers are as without it."""
    model = Noisy()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    seed(5)
    expected = numbers()
    seed(5)
    with TensorboardLogger(tmp_path) as logger:
        logger.log_graph(model, torch.zeros(2, 4))
    assert numbers() == expected
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any("BatchNorm1d[norm]" in name for name in nodes(tmp_path))


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, partial(torch.compile, backend="eager")], ids=["parallel", "compiled"]
)
def test_graph_of_a_wrapped_model(tmp_path, wrap):
    """The graph of a wrapped model is the graph of the model inside."""
    with TensorboardLogger(tmp_path) as logger:
        logger.log_graph(wrap(nn.Sequential(nn.Linear(4, 3))), torch.zeros(2, 4))
    names = nodes(tmp_path)
    assert any("Linear[0]" in name for name in names)
    assert not any("_orig_mod" in name or "[module]" in name for name in names)


def test_graph_that_cannot_be_traced(tmp_path, caplog):
    """The log names the model and the reason, and training continues; on_error="raise" raises."""
    with TensorboardLogger(tmp_path) as logger:
        logger.log_graph(nn.Linear(4, 3), torch.zeros(2, 5))
        logger.log_scalars({"x": 1.0}, 1)
    assert (
        "the graph of Linear was not logged, because torch cannot trace it: RuntimeError: mat1 and mat2"
        in caplog.text
    )
    with (
        TensorboardLogger(tmp_path, on_error="raise") as logger,
        pytest.raises(RuntimeError, match="mat1 and mat2"),
    ):
        logger.log_graph(nn.Linear(4, 3), torch.zeros(2, 5))


def test_graph_of_something_else(tmp_path):
    """An object that is not a module raises."""
    with (
        TensorboardLogger(tmp_path) as logger,
        pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got 3"),
    ):
        logger.log_graph(3, torch.zeros(2, 5))
