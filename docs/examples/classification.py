"""Train a classifier with plain functions as handlers.

    pip install glowplug glowplug-metrics scikit-learn
    python docs/examples/classification.py

Print the loss every 20 iterations. After each epoch, evaluate the model on the training set and on the validation set, with one
evaluator that has four metrics.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from glowplug_metrics import Accuracy, Loss, Precision, Recall

Batches = DataLoader[tuple[torch.Tensor, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    torch.manual_seed(0)
    train_loader, validation_loader = load_data()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    loss_fn = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, torch.optim.Adam(model.parameters(), lr=0.002), loss_fn)
    metrics = {
        "accuracy": Accuracy(),
        "precision": Precision(average=True),
        "recall": Recall(average=True),
        "loss": Loss(loss_fn),
    }
    evaluator = create_supervised_evaluator(model, metrics)

    @trainer.on(Events.ITERATION_COMPLETED(every=20))
    def show_loss(engine: Engine) -> None:
        state = engine.state
        print(f"epoch {state.epoch}, iteration {state.iteration:3}: loss {state.output:.4f}")

    @trainer.on(Events.EPOCH_COMPLETED)
    def show_results(engine: Engine) -> None:
        for name, loader in (("training", train_loader), ("validation", validation_loader)):
            results = evaluator.run(loader).metrics
            line = ", ".join(f"{metric} {value:.4f}" for metric, value in results.items())
            print(f"epoch {engine.state.epoch}, {name:10}: {line}")

    trainer.run(train_loader, max_epochs=options.epochs)


def load_data() -> tuple[Batches, Batches]:
    """Return batches of handwritten digits, 1,437 for training and 360 for validation, each 8 x 8 in [0, 1]."""
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32) / 16, torch.tensor(digits.target)
    train, validation = train_test_split(range(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    return (
        DataLoader(TensorDataset(images[train], labels[train]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(images[validation], labels[validation]), batch_size=360),
    )


if __name__ == "__main__":
    main()
