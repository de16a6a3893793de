"""Find a learning rate for a network that classifies handwritten digits, and train with it.

pip install glowplug glowplug-lr-finder glowplug-metrics scikit-learn
python docs/examples/lr_finder.py
python docs/examples/lr_finder.py --picture curve.png     also draw the losses of the search (needs matplotlib)
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from glowplug import Engine, create_supervised_evaluator, create_supervised_trainer
from glowplug_lr_finder import FastaiLRFinder
from glowplug_metrics import Accuracy

START_LR = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--picture", type=Path, help="file for a picture of the search")
    options = parser.parse_args()

    torch.manual_seed(0)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    train_data, test_data = random_split(data, [1437, 360])
    loader = DataLoader(train_data, batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    trainer, optimizer = make_trainer(model, START_LR)

    finder = FastaiLRFinder()
    with finder.attach(
        trainer, {"model": model, "optimizer": optimizer}, num_iter=200, start_lr=START_LR, end_lr=10.0
    ):
        trainer.run(loader)
        print(f"the loss diverged after {trainer.state.iteration} iterations")
    print(f"suggested learning rate: {finder.lr_suggestion():.3f}")
    if options.picture:
        draw(options.picture, finder)

    for rate in (START_LR, finder.lr_suggestion()):
        # The search has restored the model, so both trainings start with the same weights.
        trained = copy.deepcopy(model)
        make_trainer(trained, rate)[0].run(loader, max_epochs=options.epochs)
        evaluator = create_supervised_evaluator(trained, {"accuracy": Accuracy()})
        accuracy = evaluator.run(DataLoader(test_data, batch_size=360)).metrics["accuracy"]
        print(f"accuracy after {options.epochs} epochs with a learning rate of {rate:.4f}: {accuracy:.3f}")


def make_trainer(model: nn.Module, rate: float) -> tuple[Engine, torch.optim.Optimizer]:
    """Return a trainer and its optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return create_supervised_trainer(model, optimizer, nn.functional.cross_entropy), optimizer


def draw(path: Path, finder: FastaiLRFinder) -> None:
    """Draw the smoothed loss over the learning rate, with the suggestion."""
    import matplotlib as mpl

    mpl.use("agg")
    axes = finder.plot(skip_start=0, skip_end=0, figsize=(7, 3.5), layout="constrained")
    axes.set_title("Search for a learning rate on handwritten digits", fontsize=11)
    axes.grid(alpha=0.4)
    axes.figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
