"""Train a network on handwritten digits with Ray Train.

pip install glowplug glowplug-metrics glowplug-model-checkpoint glowplug-terminate-on-nan glowplug-jsonl 'ray[train]' scikit-learn
python docs/examples/ray_digits.py     two workers, on the cluster at RAY_ADDRESS or on this machine

The next start resumes the run, and so does Ray if a worker fails. The workers need a shared file system.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset

from glowplug import Events, create_supervised_evaluator, create_supervised_trainer, setup_training
from glowplug.distributed import rank, world_size
from glowplug.handlers import JsonLinesLogger
from glowplug.metrics import Accuracy, Loss

BATCH_SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    # Each worker has its own working directory.
    folder = Path("runs/ray_digits").resolve()
    trainer = TorchTrainer(
        train,
        train_loop_config={"folder": str(folder), "epochs": options.epochs},
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=torch.cuda.is_available()),
        run_config=RunConfig(storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=3)),
    )
    print(trainer.fit().return_value)


def train(options: dict[str, Any]) -> dict[str, float]:
    """Train on one of the workers, which Ray has connected, and return the last metrics."""
    # Each rank needs its own dropout masks. prepare_model copies the initial weights from rank 0.
    torch.manual_seed(rank())
    training, validation = load_data()
    sampler: DistributedSampler[Any] = DistributedSampler(training, world_size(), rank())
    # A DistributedSampler would repeat samples until all ranks have the same number, and the metrics would count them twice.
    part = Subset(validation, range(rank(), len(validation), world_size()))

    device, model = get_device(), make_model()
    parallel = prepare_model(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_fn = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(parallel, optimizer, loss_fn, device)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(loss_fn)}, device)

    @evaluator.on(Events.COMPLETED)
    def report() -> None:
        ray.train.report({"epoch": trainer.state.epoch, **evaluator.state.metrics})

    with JsonLinesLogger(f"{options['folder']}/log.jsonl") as logger:
        setup_training(
            trainer,
            {"model": model, "optimizer": optimizer},
            f"{options['folder']}/checkpoints",
            evaluator,
            DataLoader(part, batch_size=128),
            loggers=[logger],
            progress=False,
        )
        data = DataLoader(training, batch_size=BATCH_SIZE // world_size(), sampler=sampler)
        trainer.run(data, max_epochs=options["epochs"])
    return evaluator.state.metrics


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """Return 1,540 images for training and 257 for validation, each 1 x 8 x 8 in [0, 1]."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    return TensorDataset(images[:1540], labels[:1540]), TensorDataset(images[1540:], labels[1540:])


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 64),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(64, 10),
    )


if __name__ == "__main__":
    main()
