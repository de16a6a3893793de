"""Show the learning rate, the norm of the gradients, the throughput and the waiting time of a run, and log them to a CSV file.

pip install glowplug glowplug-jsonl glowplug-monitors scikit-learn
python docs/examples/monitoring.py
python docs/examples/monitoring.py --picture run.png     also draw the log (needs matplotlib)
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

from glowplug import Engine, Events, create_supervised_trainer
from glowplug.loggers import OutputHandler
from glowplug_jsonl import CsvLogger
from glowplug_monitors import DataWait, GradientNorm, LearningRate, Throughput

EPOCHS, AUGMENTED = 6, 4


class Digits(Dataset[tuple[torch.Tensor, int]]):
    """Handwritten digits, enlarged to 64 x 64; with ``is_augmented``, each digit is rotated when it is loaded."""

    def __init__(self) -> None:
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
        self.images = nn.functional.interpolate(images, (64, 64), mode="bicubic")
        self.labels = [int(label) for label in digits.target]
        self.is_augmented = False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index]
        if self.is_augmented:
            angle = (torch.rand(()) - 0.5) / 2
            turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(1, 2, 2)
            grid = nn.functional.affine_grid(
                torch.cat([turn, torch.zeros(1, 2, 1)], dim=2), [1, 1, 64, 64], align_corners=False
            )
            image = nn.functional.grid_sample(image[None], grid, mode="bicubic", align_corners=False)[0]
        return image, self.labels[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/monitoring.csv"), help="file for the log")
    parser.add_argument("--picture", type=Path, help="file for a picture of the log")
    options = parser.parse_args()

    torch.manual_seed(0)
    data = Digits()
    loader = DataLoader(data, batch_size=64, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5408, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * len(loader))
    trainer = create_supervised_trainer(
        model, optimizer, nn.functional.cross_entropy, clip_norm=1.0, lr_scheduler=cosine
    )

    LearningRate(optimizer).attach(trainer)
    GradientNorm(model).attach(trainer)
    Throughput(window=20).attach(trainer, "samples/s")
    DataWait(window=20).attach(trainer)

    @trainer.on(Events.EPOCH_STARTED)
    def augment(engine: Engine) -> None:
        data.is_augmented = engine.state.epoch >= AUGMENTED

    @trainer.on(Events.EPOCH_COMPLETED)
    def show(engine: Engine) -> None:
        values = engine.state.metrics
        print(
            f"epoch {engine.state.epoch}: learning rate {values['lr']:.3f}, gradient norm {values['gradient_norm']:5.2f}, "
            f"{values['samples/s']:5.0f} samples/s, {values['data_wait']:4.0%} waiting for data"
        )

    options.output.unlink(missing_ok=True)
    with CsvLogger(options.output) as logger:
        logger.attach(trainer, Events.ITERATION_COMPLETED, OutputHandler("run", metric_names="all"))
        trainer.run(loader, max_epochs=EPOCHS)
    if options.picture:
        draw(options.picture, options.output)


def draw(path: Path, log: Path) -> None:
    """Draw the four columns of the log over the iterations."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    points = defaultdict(list)
    with log.open(newline="") as file:
        for row in csv.DictReader(file):
            points[row["name"]].append((int(row["step"]), float(row["value"])))
    figure, axes = plt.subplots(2, 2, figsize=(8, 4.2), layout="constrained", sharex=True)
    names = {
        "run/lr": "learning rate",
        "run/gradient_norm": "norm of the gradients",
        "run/samples/s": "samples per second",
        "run/data_wait": "share of the time waiting for data",
    }
    first_augmented = points["run/lr"][-1][0] * (AUGMENTED - 1) // EPOCHS + 1
    for axis, (name, title) in zip(axes.flat, names.items(), strict=True):
        axis.plot(*zip(*points[name], strict=True))
        axis.axvline(first_augmented, color="gray", linestyle="--", linewidth=1)
        axis.set_title(title, fontsize=11)
        axis.grid(alpha=0.4)
        axis.set_ylim(bottom=0)
    for axis in axes[1]:
        axis.set_xlabel("iteration (dashed: augmentation begins)")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
