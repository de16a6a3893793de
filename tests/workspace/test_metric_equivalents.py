"""The code that the error about one of ignite's metrics shows computes the same value as that metric."""

import re
from pathlib import Path

import pytest
import torch

from glowplug import Engine
from glowplug.plugins import EQUIVALENTS

# The values of pytorch-ignite 0.5.5 with the same data. Those of CohenKappa, HSIC and MaximumMeanDiscrepancy are not ignite's: it
# needs labels instead of scores for the first, and takes the mean over batches for the others.
VALUES = {
    "CalinskiHarabaszScore": ("clusters", 0.576174),
    "CanberraMetric": ("numbers", 11.844191),
    "CohenKappa": ("classes", 0.023965),
    "CosineSimilarity": ("scores", -0.050491),
    "DaviesBouldinScore": ("clusters", 6.267603),
    "Entropy": ("classes", 1.933486),
    "FractionalAbsoluteError": ("numbers", 0.740262),
    "FractionalBias": ("numbers", 0.06172),
    "GeometricMeanAbsoluteError": ("numbers", 0.249009),
    "GeometricMeanRelativeAbsoluteError": ("numbers", 1.849094),
    "HSIC": ("scores", 0.02195),
    "JSDivergence": ("scores", 0.194885),
    "KendallRankCorrelation": ("numbers", -0.129032),
    "KLDivergence": ("scores", 0.975945),
    "ManhattanDistance": ("numbers", 12.048711),
    "MatthewsCorrCoef": ("classes", 0.024337),
    "MaximumAbsoluteError": ("numbers", 0.793063),
    "MaximumMeanDiscrepancy": ("scores", 0.24574),
    "MeanAbsoluteRelativeError": ("numbers", 0.928795),
    "MeanError": ("numbers", -0.011843),
    "MeanNormalizedBias": ("numbers", -0.421752),
    "MeanPairwiseDistance": ("scores", 4.45184),
    "MedianAbsoluteError": ("numbers", 0.375942),
    "MedianAbsolutePercentageError": ("numbers", 66.497588),
    "MedianRelativeAbsoluteError": ("numbers", 2.09011),
    "MutualInformation": ("classes", 0.358168),
    "PearsonCorrelation": ("numbers", -0.170633),
    "PSNR": ("images", 7.762351),
    "R2Score": ("numbers", -2.168222),
    "SilhouetteScore": ("clusters", -0.076433),
    "SpearmanRankCorrelation": ("numbers", -0.188416),
    "SSIM": ("images", 0.011281),
    "WaveHedgesDistance": ("numbers", 15.812901),
}
PARTS = {
    "numbers": lambda g: (torch.rand(8, generator=g) + 0.1, torch.rand(8, generator=g) + 0.1),
    "classes": lambda g: (torch.randn(8, 10, generator=g), torch.randint(10, (8,), generator=g)),
    "scores": lambda g: (torch.randn(8, 10, generator=g), torch.randn(8, 10, generator=g)),
    "clusters": lambda g: (torch.randn(8, 3, generator=g), torch.randint(3, (8,), generator=g)),
    "images": lambda g: (torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)),
}


# torchmetrics warns that rank correlation needs all values at once.
@pytest.mark.filterwarnings("ignore:Metric `SpearmanCorrcoef` will save all")
@pytest.mark.parametrize("name", VALUES)
def test_value(name):
    """The two lines attach a metric with the value that ignite's metric has."""
    kind, expected = VALUES[name]
    generator = torch.Generator().manual_seed(3)
    batches = [PARTS[kind](generator) for _ in range(4)]
    evaluator = Engine(lambda engine, batch: batch)
    exec("\n".join(EQUIVALENTS[name].lines(name)), {"evaluator": evaluator})
    assert evaluator.run(batches).metrics[name] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", sorted(EQUIVALENTS.keys() - VALUES.keys()))
def test_import(name):
    """The other metrics exist in torchmetrics; most of them need models or packages to be created."""
    exec(EQUIVALENTS[name].imports, {})


def test_documented():
    """docs/reference/metrics.md shows all equivalents."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| `(.+)` \|$", page, re.MULTILINE)
    assert {name: each[:2] for name, *each in rows} == {
        name: list(each[:2]) for name, each in EQUIVALENTS.items()
    }
