"""The suggestion and the plot."""

import sys

import pytest
import torch
from torch import nn

from glowplug import Engine
from glowplug.exceptions import GlowplugWarning
from glowplug_lr_finder import FastaiLRFinder

LOSSES = [5.0, 4.9, 3.0, 1.5, 1.4, 8.0]


def searched(losses=LOSSES, groups=1):
    """Return a finder after a search with these losses, and its optimizer."""
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr=1.0)
    trainer, finder = Engine(lambda engine, batch: batch), FastaiLRFinder()
    ends = [7.0 + 6 * group for group in range(groups)]
    options = {"step_mode": "linear", "end_lr": ends, "smooth_f": 0}
    with finder.attach(trainer, {"optimizer": optimizer}, **options):
        trainer.run(losses)
    return finder, optimizer


@pytest.fixture
def plt():
    """The module pyplot, without a display; without matplotlib, the test is skipped."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")


class TestSuggestion:
    def test_steepest(self):
        """The suggestion is the learning rate at which the loss falls fastest, before the minimum (H-103)."""
        finder, optimizer = searched()
        assert finder.lr_suggestion() == 3.0
        finder.apply_suggested_lr(optimizer)
        assert optimizer.param_groups[0]["lr"] == 3.0

    def test_fall_after_the_minimum(self):
        """A steeper fall beyond the minimum does not count (H-103)."""
        with pytest.warns(GlowplugWarning, match="did not diverge"):
            finder, _ = searched([3.0, 2.5, 1.6, 1.5, 7.0, 7.0, 1.6])
        assert finder.lr_suggestion() == pytest.approx(1 + 6 / 7)

    def test_groups(self):
        """With several parameter groups, the suggestion is a list (H-103)."""
        finder, optimizer = searched(groups=2)
        assert finder.lr_suggestion() == [3.0, 5.0]
        finder.apply_suggested_lr(optimizer)
        assert [group["lr"] for group in optimizer.param_groups] == [3.0, 5.0]
        with pytest.raises(
            RuntimeError, match="has 1 parameter groups, but the optimizer of the search had 2"
        ):
            finder.apply_suggested_lr(searched()[1])

    def test_real_network(self):
        """On a real network, the suggested learning rate trains much better than the lowest and the highest one (H-103)."""
        torch.manual_seed(0)
        inputs = torch.randn(100, 64, 4)
        targets = inputs.sum(2, keepdim=True) + torch.randn(100, 64, 1)
        batches = list(zip(inputs, targets, strict=True))
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

        def step(engine, batch):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            return loss

        trainer, finder = Engine(step), FastaiLRFinder()
        with finder.attach(trainer, {"model": model, "optimizer": optimizer}):
            trainer.run(batches)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        found = {}
        for rate in (finder.lr_suggestion(), 1e-4):
            model.load_state_dict(before)
            optimizer.param_groups[0]["lr"] = rate
            trainer.state.max_epochs = None
            found[rate] = trainer.run(batches).output.item()
        suggested, lowest = found.values()
        assert suggested < 2 < lowest

    @pytest.mark.parametrize("losses", [[1.0], [1.0, 0.5], [1.0, 2.0, 4.0], [1.0, 0.5, 2.0]])
    def test_unexpected_curve(self, losses):
        """If the loss does not fall before it rises, an error says what to do (H-103)."""
        with pytest.warns(GlowplugWarning):
            finder, _ = searched(losses)
        with pytest.raises(RuntimeError, match="does not fall before it rises; decrease start_lr"):
            finder.lr_suggestion()

    def test_no_search(self):
        """Before a search, an error says how to run one (H-103)."""
        finder = FastaiLRFinder()
        assert finder.get_results() == {}
        with pytest.raises(
            RuntimeError, match=r"no results for lr_suggestion\(\), because no search has run"
        ):
            finder.lr_suggestion()

    def test_applied_in_the_block(self):
        """In the block, whose end would undo it, applying the suggestion is refused (H-103)."""
        finder, optimizer = searched()
        message = "call it after the block"
        with (
            finder.attach(Engine(print), {"optimizer": optimizer}),
            pytest.raises(RuntimeError, match=message),
        ):
            finder.apply_suggested_lr(optimizer)

    def test_results_are_copies(self):
        """Changing the results does not change the suggestion (H-103)."""
        finder, _ = searched()
        finder.get_results()["loss"].clear()
        assert finder.lr_suggestion() == 3.0


class TestPlot:
    def test_curve(self, plt):
        """The plot has the points of the curve, the suggestion, labels and a logarithmic axis (H-103)."""
        finder, _ = searched()
        axes = finder.plot(skip_start=1, skip_end=1, figsize=(3, 2))
        (line,) = axes.lines
        assert line.get_xydata().tolist() == [[2.0, 4.9], [3.0, 3.0], [4.0, 1.5], [5.0, 1.4]]
        assert axes.collections[0].get_offsets().tolist() == [[3.0, 3.0]]
        assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("Learning rate", "Loss", "log")
        assert axes.get_xlim() == (2.0, 5.0)
        assert tuple(axes.figure.get_size_inches()) == (3, 2)

    def test_options(self, plt):
        """The plot can be drawn on given axes, with a linear axis and without the suggestion (H-103)."""
        finder, _ = searched()
        _, axes = plt.subplots()
        assert finder.plot(0, 0, log_lr=False, display_suggestion=False, ax=axes) is axes
        assert len(axes.lines[0].get_xdata()) == 6
        assert (axes.get_xscale(), len(axes.collections)) == ("linear", 0)

    def test_groups(self, plt):
        """Each parameter group has its own line and suggestion (H-103)."""
        axes = searched(groups=2)[0].plot(0, 0)
        assert [line.get_xdata().tolist()[:2] for line in axes.lines] == [[1.0, 2.0], [1.0, 3.0]]
        assert [each.get_offsets().tolist() for each in axes.collections] == [[[3.0, 3.0]], [[5.0, 3.0]]]

    def test_warnings(self, plt):
        """A suggestion that is out of view or does not exist causes a warning, and the curve is drawn (H-103)."""
        with pytest.warns(GlowplugWarning, match="not visible in the plot; decrease skip_start"):
            assert searched()[0].plot(3, 0).lines
        finder, _ = searched([1.0, 2.0, 9.0])
        with pytest.warns(GlowplugWarning, match="does not fall before it rises"):
            assert finder.plot(0, 0, log_lr=False).lines

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"skip_start": -1}, "skip_start cannot be negative, got -1"),
            ({"skip_end": -1}, "skip_end cannot be negative, got -1"),
            ({}, "nothing to plot: the search has 6 points; decrease skip_start or skip_end"),
        ],
    )
    def test_invalid(self, plt, options, message):
        """Numbers that leave nothing to plot raise an error (H-103)."""
        with pytest.raises(ValueError, match=message):
            searched()[0].plot(**options)

    def test_no_search(self, plt):
        """Before a search, an error says how to run one (H-103)."""
        with pytest.raises(RuntimeError, match=r"no results for plot\(\), because no search has run"):
            FastaiLRFinder().plot()

    @pytest.mark.parametrize("module", ["matplotlib", "matplotlib.pyplot"])
    def test_no_matplotlib(self, monkeypatch, module):
        """Without matplotlib or its pyplot, an error says what to install (H-103)."""
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install \"glowplug-lr-finder\[plot\]\""):
            searched()[0].plot()
