"""TorchMetric passes MetricContract."""

import pytest
import torch
import torchmetrics
from torchmetrics.classification import MulticlassAUROC, MulticlassF1Score

from glowplug_testing import MetricCase, MetricContract
from glowplug_torchmetrics import TorchMetric

random = torch.Generator().manual_seed(0)
BATCHES = [(torch.rand(n, 3, generator=random), torch.randint(3, (n,), generator=random)) for n in (4, 1, 7)]


def collection():
    """Return a metric with counts and one that stores its examples."""
    return torchmetrics.MetricCollection({"f1": MulticlassF1Score(3), "auroc": MulticlassAUROC(3)})


class TestTorchMetric(MetricContract):
    @pytest.fixture
    def case(self):
        """Return the case of a collection, compared with torchmetrics on all data at once."""
        y_pred, y = (torch.cat(parts) for parts in zip(*BATCHES, strict=True))
        return MetricCase(
            make=lambda: TorchMetric(collection()),
            outputs=BATCHES,
            expected={name: value.item() for name, value in collection()(y_pred, y).items()},
            plugin="glowplug_torchmetrics._plugin",
            heavy=["torch", "torchmetrics"],
        )
