"""Compare a model with the moving average of its weights, while it learns handwritten digits with a high learning rate.

pip install glowplug glowplug-ema glowplug-metrics scikit-learn
python docs/examples/averaged_weights.py
python docs/examples/averaged_weights.py --picture accuracies.png     also draw the accuracies (needs matplotlib)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Events, create_supervised_evaluator, create_supervised_trainer
from glowplug_ema import EMAHandler
from glowplug_metrics import Accuracy

EVERY = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--picture", type=Path, help="file for a picture of the accuracies")
    options = parser.parse_args()

    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=0.5, stratify=labels, random_state=0)
    loader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=16, shuffle=True)
    test_loader = DataLoader(TensorDataset(images[test], labels[test]), batch_size=len(test))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})

    ema = EMAHandler(model, momentum=0.02)
    ema.attach(trainer)
    accuracies: dict[str, list[float]] = {"model": [], "averaged weights": []}

    @trainer.on(Events.ITERATION_COMPLETED(every=EVERY))
    def evaluate() -> None:
        accuracies["model"].append(evaluator.run(test_loader).metrics["accuracy"])
        with ema.averaged_weights():
            accuracies["averaged weights"].append(evaluator.run(test_loader).metrics["accuracy"])

    trainer.run(loader, max_epochs=options.epochs)
    for name, values in accuracies.items():
        second_half = values[len(values) // 2 :]
        spread = f"mean {mean(second_half):.3f}, standard deviation {stdev(second_half):.3f}"
        print(f"{name:16}  accuracy in the second half: {spread}")
    if options.picture:
        draw(options.picture, accuracies)


def draw(path: Path, accuracies: dict[str, list[float]]) -> None:
    """Draw both accuracies over the iterations."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for (name, values), width in zip(accuracies.items(), (1.0, 2.0), strict=True):
        iterations = range(EVERY, EVERY * len(values) + 1, EVERY)
        axis.plot(iterations, values, linewidth=width, label=name)
    axis.set(xlabel="iteration", ylabel="validation accuracy", ylim=(0.75, 1.0))
    axis.set_title("a model and the average of its weights", fontsize=11)
    axis.grid(alpha=0.4)
    axis.legend(loc="lower right")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
