"""Metrics without an engine: reset, update and compute in a plain loop.

pip install glowplug glowplug-metrics scikit-learn
python docs/examples/metrics_alone.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug_metrics import F1, Accuracy, Loss


def main() -> None:
    torch.manual_seed(0)
    wine = load_wine()
    data = TensorDataset(torch.tensor(scale(wine.data), dtype=torch.float32), torch.tensor(wine.target))
    model = nn.Linear(13, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    metrics = {"loss": Loss(nn.functional.cross_entropy), "accuracy": Accuracy(), "F1": F1()}

    for epoch in range(1, 4):
        for metric in metrics.values():
            metric.reset()
        for x, y in DataLoader(data, batch_size=16, shuffle=True):
            y_pred = model(x)
            loss = nn.functional.cross_entropy(y_pred, y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            for metric in metrics.values():
                metric.update((y_pred.detach(), y))
        line = ", ".join(f"{name} {metric.compute():.4f}" for name, metric in metrics.items())
        print(f"epoch {epoch}: {line}")


if __name__ == "__main__":
    main()
