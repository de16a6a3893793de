"""Compute F1 in three ways: with metric arithmetic, with a function of metrics, and with the class F1.

pip install glowplug glowplug-metrics scikit-learn
python docs/examples/f1.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_wine
from sklearn.metrics import f1_score
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import MetricsLambda, create_supervised_evaluator, create_supervised_trainer
from glowplug_metrics import F1, Precision, Recall


def f_score(precision: torch.Tensor, recall: torch.Tensor, beta: float) -> float:
    """Return F-beta, averaged over the classes. Recall counts ``beta`` times as much as precision."""
    scores = (1 + beta**2) * precision * recall / (beta**2 * precision + recall + 1e-20)
    return scores.mean().item()


def main() -> None:
    torch.manual_seed(0)
    wine = load_wine()  # 13 measurements of 178 wines from 3 growers
    x, y = torch.tensor(scale(wine.data), dtype=torch.float32), torch.tensor(wine.target)
    data = TensorDataset(x, y)
    model = nn.Linear(13, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    trainer.run(DataLoader(data, batch_size=16, shuffle=True))

    precision, recall = Precision(average=False), Recall(average=False)
    f1_per_class = 2 * precision * recall / (precision + recall)
    metrics = {
        "precision": precision,
        "recall": recall,
        "F1 per class": f1_per_class,
        "F1, by arithmetic": f1_per_class.mean(),
        "F1, by MetricsLambda": MetricsLambda(f_score, precision, recall, beta=1.0),
        "F1, ready-made": F1(),
        "F2, by MetricsLambda": MetricsLambda(f_score, precision, recall, beta=2.0),
    }
    evaluator = create_supervised_evaluator(model, metrics)
    for name, value in evaluator.run(DataLoader(data, batch_size=50)).metrics.items():
        text = f"{value:.4f}" if isinstance(value, float) else value.numpy().round(4)
        print(f"{name:21} {text}")

    predicted = model(x).argmax(1)
    print(f"{'F1, by scikit-learn':21} {f1_score(y, predicted, average='macro'):.4f}")


if __name__ == "__main__":
    main()
