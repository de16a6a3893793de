"""Accuracy, Loss and RunningAverage pass MetricContract."""

import pytest
import torch

from glowplug_metrics import Accuracy, Loss, RunningAverage
from glowplug_testing import MetricCase, MetricContract

SIZES = (4, 1, 7)
torch_random = torch.Generator().manual_seed(0)
BATCHES = [
    (torch.rand(n, 3, generator=torch_random), torch.randint(3, (n,), generator=torch_random)) for n in SIZES
]


class TestAccuracy(MetricContract):
    @pytest.fixture
    def case(self):
        """Return the case of multiclass data."""
        right = [y_pred.argmax(1) == y for y_pred, y in BATCHES]
        return MetricCase(
            make=Accuracy,
            outputs=BATCHES,
            expected=torch.cat(right).double().mean().item(),
            plugin="glowplug_metrics._plugin",
            heavy=["torch", "numpy"],
        )


class TestLoss(MetricContract):
    @pytest.fixture
    def case(self):
        """Return the case of the cross entropy."""
        y_pred, y = (torch.cat(parts) for parts in zip(*BATCHES, strict=True))
        expected = torch.nn.functional.cross_entropy(y_pred.double(), y).item()
        return MetricCase(
            make=lambda: Loss(torch.nn.functional.cross_entropy), outputs=BATCHES, expected=expected
        )


class TestRunningAverage(MetricContract):
    expected_failures = {
        "order_does_not_matter": "later outputs have larger weights",
        "batches_do_not_matter": "it does not weight outputs by their size",
        "ranks_agree_on_the_value": "the value is the mean of the averages of the ranks",
        "is_published_under_its_name": "it continues over the epochs of a run",
    }

    @pytest.fixture
    def case(self):
        """Return the case of an average of numbers."""
        return MetricCase(
            make=lambda: RunningAverage(output_transform=float, alpha=0.5),
            outputs=[4.0, 2.0, 1.0],
            joined=7.0 / 3,
            expected=2.0,
        )
