"""Plots of simulated values."""

import sys

import pytest
import torch
from torch.optim import lr_scheduler

from glowplug_schedulers import CosineAnnealingScheduler, LRScheduler

OPTIONS = {"param_name": "momentum", "start_value": 1.0, "end_value": 0.0, "cycle_size": 4}


@pytest.fixture
def axes():
    """Return the current axes of a new figure."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    _, axes = plt.subplots()
    yield axes
    plt.close("all")


def test_one_line(axes):
    """The plot shows the simulated values with the name of the parameter (H-110)."""
    (line,) = CosineAnnealingScheduler.plot_values(6, **OPTIONS)
    assert line.axes is axes
    assert list(zip(*line.get_data(), strict=True)) == [
        tuple(row) for row in CosineAnnealingScheduler.simulate_values(6, **OPTIONS)
    ]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["momentum"]


def test_a_line_per_group(axes):
    """There is a line for each parameter group (H-110)."""
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in (1.0, 2.0)])
    lines = LRScheduler.plot_values(3, lr_scheduler=lr_scheduler.ExponentialLR(optimizer, 0.5))
    assert [list(line.get_ydata()) for line in lines] == [[1.0, 0.5, 0.25], [2.0, 1.0, 0.5]]
    assert [line.get_label() for line in lines] == ["learning rate [0]", "learning rate [1]"]


@pytest.mark.parametrize("module", ["matplotlib", "matplotlib.pyplot"])
def test_without_matplotlib(monkeypatch, module):
    """Without matplotlib or its pyplot, the error says what to install (H-110)."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'glowplug-schedulers\[plot\]'"):
        CosineAnnealingScheduler.plot_values(6, **OPTIONS)
