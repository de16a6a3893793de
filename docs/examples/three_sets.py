"""One evaluator for three data sets, and a second metric that is attached only for the test set.

pip install glowplug glowplug-metrics scikit-learn
python docs/examples/three_sets.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from glowplug import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from glowplug_metrics import Accuracy, TopKCategoricalAccuracy


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    loaders = {
        name: DataLoader(part, batch_size=64, shuffle=name == "training")
        for name, part in zip(
            ("training", "validation", "test"), random_split(data, [1200, 300, 297]), strict=True
        )
    }
    model = nn.Linear(64, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})

    mistakes: list[int] = []

    def collect(engine: Engine) -> None:
        y_pred, y = engine.state.output
        mistakes.extend(y[y_pred.argmax(1) != y].tolist())

    @trainer.on(Events.COMPLETED)
    def evaluate() -> None:
        for name in ("training", "validation"):
            print(f"{name:10} {evaluator.run(loaders[name]).metrics}")
        with (
            evaluator.add_event_handler(Events.ITERATION_COMPLETED, collect),
            TopKCategoricalAccuracy(k=2).attach(evaluator, "among the first two"),
        ):
            print(f"{'test':10} {evaluator.run(loaders['test']).metrics}")
        print(f"mistakes in the test set: {len(mistakes)}")
        # The handles have removed the second metric and the handler.
        print(f"{'validation':10} {evaluator.run(loaders['validation']).metrics}")

    trainer.run(loaders["training"], max_epochs=5)


if __name__ == "__main__":
    main()
