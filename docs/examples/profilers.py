"""Find out where the time of a run goes: by event, by handler, and in a trace.

pip install glowplug glowplug-metrics glowplug-model-checkpoint glowplug-timers scikit-learn
python docs/examples/profilers.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

from glowplug import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from glowplug_metrics import Accuracy, RunningAverage
from glowplug_model_checkpoint import ModelCheckpoint
from glowplug_timers import BasicTimeProfiler, HandlersTimeProfiler, ProfilerHandler

Batches = DataLoader[tuple[torch.Tensor, int]]


class EnlargedDigits(Dataset[tuple[torch.Tensor, int]]):
    """Handwritten digits, enlarged to 64 x 64 each time they are loaded."""

    def __init__(self) -> None:
        digits = load_digits()
        self.images = torch.tensor(digits.images, dtype=torch.float32) / 16
        self.labels = [int(label) for label in digits.target]

    def __len__(self) -> int:
        return 480

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index][None, None]
        return nn.functional.interpolate(image, (64, 64), mode="bicubic")[0], self.labels[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/profilers"), help="folder for files")
    options = parser.parse_args()

    torch.manual_seed(0)
    loader = DataLoader(EnlargedDigits(), batch_size=32, shuffle=True)
    trainer = make_trainer(loader, options.output / "checkpoints")
    by_event, by_handler = BasicTimeProfiler(), HandlersTimeProfiler()
    by_event.attach(trainer)
    by_handler.attach(trainer)
    trainer.run(loader, max_epochs=3)
    by_event.print_results(by_event.get_results())
    print()
    by_handler.print_results(by_handler.get_results())

    trainer = make_trainer(loader, options.output / "checkpoints")
    trainer.attach(ProfilerHandler(options.output / "traces", wait=1, warmup=1, active=3))
    trainer.run(loader, max_epochs=1)
    print(f"\ntrace of 3 iterations in {options.output / 'traces'}")


def make_trainer(loader: Batches, folder: Path) -> Engine:
    """Return a trainer that validates and saves a model after each epoch."""
    model = nn.Sequential(nn.Conv2d(1, 8, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(1800, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate, evaluator, loader)
    checkpoint = ModelCheckpoint(folder, filename_prefix="model", require_empty=False)
    checkpoint.attach(trainer, Events.EPOCH_COMPLETED, {"model": model})
    return trainer


def validate(_engine: Engine, evaluator: Engine, loader: Batches) -> None:
    """Run the evaluator."""
    evaluator.run(loader)


if __name__ == "__main__":
    main()
