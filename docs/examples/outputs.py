"""Metrics for steps that return a tuple, a list, a dict with the keys y_pred and y, or a dict with other keys.

pip install glowplug glowplug-metrics scikit-learn
python docs/examples/outputs.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Engine
from glowplug_metrics import Accuracy, Average


def main() -> None:
    torch.manual_seed(0)
    data, labels = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(scale(data), dtype=torch.float32), torch.tensor(labels)
    batches = list(DataLoader(TensorDataset(x, y), batch_size=100))
    model = nn.Linear(30, 2)

    def predict(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return model(batch[0]), batch[1]

    def as_tuple(_engine: Engine, batch: Any) -> Any:
        y_pred, y = predict(batch)
        return y_pred, y

    def as_list(_engine: Engine, batch: Any) -> Any:
        y_pred, y = predict(batch)
        return [y_pred, y, {"size": len(y)}]

    def as_dict(_engine: Engine, batch: Any) -> Any:
        y_pred, y = predict(batch)
        return {"y_pred": y_pred, "y": y, "size": len(y)}

    def with_own_names(_engine: Engine, batch: Any) -> Any:
        logits, y = predict(batch)
        return {"logits": logits, "diagnosis": y, "loss": nn.functional.cross_entropy(logits, y)}

    def both(output: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return output["logits"], output["diagnosis"]

    kinds: list[tuple[Callable[..., Any], Accuracy]] = [
        (as_tuple, Accuracy()),
        (as_list, Accuracy(output_transform=lambda output: output[:2])),
        # The metric selects the keys y_pred and y.
        (as_dict, Accuracy()),
        (with_own_names, Accuracy(output_transform=both)),
    ]
    for step, accuracy in kinds:
        engine = Engine(step)
        accuracy.attach(engine, "accuracy")
        if step is with_own_names:
            Average(output_transform=lambda output: output["loss"]).attach(
                engine, "mean of the batches' losses"
            )
        print(f"{step.__name__:15} {engine.run(batches).metrics}")


if __name__ == "__main__":
    main()
