"""Code that computes metrics of pytorch-ignite that no plugin offers, with torchmetrics, torch or scikit-learn."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EQUIVALENTS", "Equivalent"]


class Equivalent(NamedTuple):
    """Two lines of code that replace a metric.

    Args:
        imports: The line with the imports.
        metric: Expression that creates a metric.
        install: What ``pip install`` needs, besides glowplug-metrics.

    Example:
        >>> print(EQUIVALENTS["MeanError"].text("MeanError"))
        Use these lines:
            from glowplug.metrics import EpochMetric
            EpochMetric(lambda y_pred, y: (y - y_pred).mean().item()).attach(evaluator, "MeanError")
    """

    imports: str
    metric: str
    install: str = ""

    def lines(self, name: str) -> tuple[str, str]:
        """Return the code that attaches the metric with this name to ``evaluator``."""
        return self.imports, f'{self.metric}.attach(evaluator, "{name}")'

    def text(self, name: str) -> str:
        """Return the end of an error message."""
        needed = f" (pip install {self.install})" if self.install else ""
        return "\n    ".join((f"Use these lines{needed}:", *self.lines(name)))


def _torchmetrics(module: str, call: str, more: str = "") -> Equivalent:
    imported = f"from {module} import {call.partition('(')[0]}"
    return Equivalent(
        f"from glowplug.metrics import TorchMetric; {imported}",
        f"TorchMetric({call})",
        " ".join(filter(None, ("glowplug-torchmetrics", more))),
    )


def _epoch_metric(value: str, imports: str = "") -> Equivalent:
    line = "; ".join(filter(None, ("from glowplug.metrics import EpochMetric", imports)))
    return Equivalent(
        line, f"EpochMetric(lambda y_pred, y: {value})", "scikit-learn" if "sklearn" in imports else ""
    )


_FUNCTIONAL = "import torch.nn.functional as F"
_DETECTION = _torchmetrics(
    "torchmetrics.detection.mean_ap", "MeanAveragePrecision()", "torchmetrics[detection]"
)
_FAIRNESS = _torchmetrics("torchmetrics.classification", "BinaryFairness(num_groups=2)")
_ROUGE = _torchmetrics("torchmetrics.text", "ROUGEScore()", "torchmetrics[text]")

EQUIVALENTS = {
    # Classification
    "CohenKappa": _torchmetrics("torchmetrics", 'CohenKappa(task="multiclass", num_classes=10)'),
    "Entropy": _epoch_metric(
        "-(F.softmax(y_pred, 1) * F.log_softmax(y_pred, 1)).sum(1).mean().item()", _FUNCTIONAL
    ),
    "JSDivergence": _epoch_metric(
        "(lambda p, q: (p.xlogy(2 * p / (p + q)) + q.xlogy(2 * q / (p + q))).sum(1).mean().item() / 2)"
        "(F.softmax(y, 1), F.softmax(y_pred, 1))",
        _FUNCTIONAL,
    ),
    "KLDivergence": _epoch_metric(
        'F.kl_div(F.log_softmax(y_pred, 1), F.softmax(y, 1), reduction="batchmean").item()', _FUNCTIONAL
    ),
    "MatthewsCorrCoef": _torchmetrics("torchmetrics", 'MatthewsCorrCoef(task="multiclass", num_classes=10)'),
    "MutualInformation": _epoch_metric(
        "(lambda p: (p * p.log()).sum(1).mean() - (p.mean(0) * p.mean(0).log()).sum())"
        "(F.softmax(y_pred, 1)).item()",
        _FUNCTIONAL,
    ),
    **dict.fromkeys(
        (
            "DemographicParityDifference",
            "SelectionRate",
            "SubgroupAccuracyDifference",
            "SubgroupDifference",
            "SubgroupMetric",
        ),
        _FAIRNESS,
    ),
    # Regression
    "CanberraMetric": _epoch_metric("((y - y_pred).abs() / (y.abs() + y_pred.abs())).sum().item()"),
    "FractionalAbsoluteError": _epoch_metric(
        "2 * ((y - y_pred).abs() / (y.abs() + y_pred.abs())).mean().item()"
    ),
    "FractionalBias": _epoch_metric("2 * ((y - y_pred) / (y + y_pred)).mean().item()"),
    "GeometricMeanAbsoluteError": _epoch_metric("(y - y_pred).abs().log().mean().exp().item()"),
    "GeometricMeanRelativeAbsoluteError": _epoch_metric(
        "((y - y_pred).abs() / (y - y.mean()).abs()).log().mean().exp().item()"
    ),
    "KendallRankCorrelation": _torchmetrics("torchmetrics", "KendallRankCorrCoef()"),
    "ManhattanDistance": _epoch_metric("(y - y_pred).abs().sum().item()"),
    "MaximumAbsoluteError": _epoch_metric("(y - y_pred).abs().max().item()"),
    "MeanAbsoluteRelativeError": _epoch_metric("((y - y_pred).abs() / y.abs()).mean().item()"),
    "MeanError": _epoch_metric("(y - y_pred).mean().item()"),
    "MeanNormalizedBias": _epoch_metric("((y - y_pred) / y).mean().item()"),
    "MeanPairwiseDistance": _epoch_metric("F.pairwise_distance(y_pred, y).mean().item()", _FUNCTIONAL),
    "MedianAbsoluteError": _epoch_metric("(y - y_pred).abs().quantile(0.5).item()"),
    "MedianAbsolutePercentageError": _epoch_metric(
        "100 * ((y - y_pred).abs() / y.abs()).quantile(0.5).item()"
    ),
    "MedianRelativeAbsoluteError": _epoch_metric(
        "((y - y_pred).abs() / (y - y.mean()).abs()).quantile(0.5).item()"
    ),
    "PearsonCorrelation": _torchmetrics("torchmetrics", "PearsonCorrCoef()"),
    "R2Score": _torchmetrics("torchmetrics", "R2Score()"),
    "SpearmanRankCorrelation": _torchmetrics("torchmetrics", "SpearmanCorrCoef()"),
    "WaveHedgesDistance": _epoch_metric("((y - y_pred).abs() / y.maximum(y_pred)).sum().item()"),
    # Features
    "CosineSimilarity": _torchmetrics("torchmetrics", 'CosineSimilarity(reduction="mean")'),
    "CalinskiHarabaszScore": _torchmetrics("torchmetrics.clustering", "CalinskiHarabaszScore()"),
    "DaviesBouldinScore": _torchmetrics("torchmetrics.clustering", "DaviesBouldinScore()"),
    "SilhouetteScore": _epoch_metric(
        "silhouette_score(y_pred, y)", "from sklearn.metrics import silhouette_score"
    ),
    "HSIC": _epoch_metric(
        "(lambda h: (h @ rbf_kernel(y_pred) @ h * rbf_kernel(y)).sum())(np.eye(len(y)) - 1 / len(y)) / (len(y) - 1) ** 2",
        "import numpy as np; from sklearn.metrics.pairwise import rbf_kernel",
    ),
    "MaximumMeanDiscrepancy": _epoch_metric(
        "(rbf_kernel(y_pred, gamma=0.5) + rbf_kernel(y, gamma=0.5) - 2 * rbf_kernel(y_pred, y, gamma=0.5)).mean() ** 0.5",
        "from sklearn.metrics.pairwise import rbf_kernel",
    ),
    # Text
    "Bleu": _torchmetrics("torchmetrics.text", "BLEUScore()"),
    "CharacterErrorRate": _torchmetrics("torchmetrics.text", "CharErrorRate()"),
    "Perplexity": _torchmetrics("torchmetrics.text", "Perplexity()"),
    **dict.fromkeys(("Rouge", "RougeL", "RougeN"), _ROUGE),
    # Images
    "FID": _torchmetrics("torchmetrics.image.fid", "FrechetInceptionDistance()", "torchmetrics[image]"),
    "InceptionScore": _torchmetrics(
        "torchmetrics.image.inception", "InceptionScore()", "torchmetrics[image]"
    ),
    "PSNR": _torchmetrics("torchmetrics.image", "PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3))"),
    "SSIM": _torchmetrics("torchmetrics.image", "StructuralSimilarityIndexMeasure(data_range=1.0)"),
    **dict.fromkeys(
        ("CommonObjectDetectionMetrics", "MeanAveragePrecision", "ObjectDetectionAvgPrecisionRecall"),
        _DETECTION,
    ),
    # Rankings
    "HitRate": _torchmetrics("torchmetrics.retrieval", "RetrievalHitRate(top_k=10)"),
    "NDCG": _torchmetrics("torchmetrics.retrieval", "RetrievalNormalizedDCG(top_k=10)"),
}
"""Maps the name of each metric to its equivalent."""
