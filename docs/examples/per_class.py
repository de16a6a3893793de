"""Compute per-class metrics, adapt the learning rate to the loss, and resume from a checkpoint.

pip install glowplug glowplug-metrics glowplug-model-checkpoint scikit-learn
python docs/examples/per_class.py               a new run
python docs/examples/per_class.py --resume      continue from the best model so far
python docs/examples/per_class.py --picture confusion.png     also draw the confusion matrix (needs matplotlib)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from glowplug_metrics import Accuracy, Average, ConfusionMatrix, ConfusionTable
from glowplug_model_checkpoint import ModelCheckpoint

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
Batches = DataLoader[tuple[torch.Tensor, ...]]


class Best:
    """The best accuracy so far and its epoch. It has a ``state_dict``, so a checkpoint can save it."""

    def __init__(self) -> None:
        self.accuracy, self.epoch = 0.0, 0

    def state_dict(self) -> dict[str, float]:
        """Return the accuracy and the epoch."""
        return {"accuracy": self.accuracy, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore the accuracy and the epoch."""
        self.accuracy, self.epoch = state["accuracy"], int(state["epoch"])


def main() -> None:
    options = parse_options()
    torch.manual_seed(0)
    train_loader, test_loader = load_data()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=0)
    best = Best()

    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    Average().attach(trainer, "loss")
    confusion = ConfusionMatrix(num_classes=10)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "confusion": confusion})

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine: Engine) -> None:
        loss, rate = engine.state.metrics["loss"], optimizer.param_groups[0]["lr"]
        scheduler.step(loss)
        accuracy = evaluator.run(test_loader).metrics["accuracy"]
        print(f"epoch {engine.state.epoch:2}: rate {rate:.3f}, mean loss {loss:.4f}, accuracy {accuracy:.4f}")
        if accuracy > best.accuracy:
            best.accuracy, best.epoch = accuracy, engine.state.epoch

    to_save = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "best": best,
        "trainer": trainer,
    }
    checkpoint = ModelCheckpoint(
        options.output,
        filename_prefix="best",
        score_function=lambda _: evaluator.state.metrics["accuracy"],
        score_name="accuracy",
        resume="auto" if options.resume else None,
    )
    checkpoint.attach(trainer, Events.EPOCH_COMPLETED, to_save)
    if checkpoint.resumed_from:
        print(f"resuming after epoch {best.epoch}, with an accuracy of {best.accuracy:.4f}")
    trainer.run(train_loader, max_epochs=options.epochs)

    ModelCheckpoint.load_objects({"model": model}, str(checkpoint.best_checkpoint))
    table = ConfusionTable(evaluator.run(test_loader).metrics["confusion"], NAMES)
    print(f"\nbest model (epoch {best.epoch}):\n\n{table}")
    if options.picture:
        draw(options.picture, table)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--resume", action="store_true", help="continue from the best model so far")
    parser.add_argument("--output", type=Path, default=Path("runs/per_class"), help="folder for models")
    parser.add_argument("--picture", type=Path, help="file for a picture of the confusion matrix")
    return parser.parse_args()


def load_data() -> tuple[Batches, Batches]:
    """Return batches of handwritten digits, 898 for training and 899 for testing, each 8 x 8 in [-1, 1]."""
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1, torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=0.5, stratify=labels, random_state=0)
    return (
        DataLoader(TensorDataset(images[train], labels[train]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(images[test], labels[test]), batch_size=256),
    )


def draw(path: Path, table: ConfusionTable) -> None:
    """Draw the confusion matrix with its counts; larger counts are darker."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 5), layout="constrained")
    # The square root makes small counts visible beside large ones.
    axis.imshow(table.matrix.sqrt().numpy(), cmap="Blues")
    places = range(len(table.class_names))
    axis.set_xticks(places, table.class_names, rotation=45)
    axis.set_yticks(places, table.class_names)
    axis.set(xlabel="predicted", ylabel="actual")
    for row in places:
        for column in places:
            count = int(table.matrix[row, column])
            axis.text(
                column, row, str(count or ""), ha="center", va="center", color="w" if row == column else "k"
            )
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
