"""Train a network on handwritten digits with Hugging Face Accelerate.

pip install glowplug glowplug-metrics glowplug-model-checkpoint glowplug-mlflow accelerate scikit-learn
accelerate launch --num_processes 2 --cpu docs/examples/accelerate_digits.py     two processes
python docs/examples/accelerate_digits.py                                        one process

The next start resumes the run. torchrun can start the script too.
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from glowplug import Engine, Events, create_supervised_evaluator
from glowplug.distributed import rank, rank_zero_only, world_size
from glowplug.loggers import setup_logging
from glowplug.metrics import Accuracy, Loss
from glowplug_mlflow import MLflowLogger
from glowplug_model_checkpoint import ModelCheckpoint

FOLDER = "runs/accelerate_digits"
BATCH_SIZE = 64


def main() -> None:
    # The order of the samples depends only on the seed and the epoch.
    configuration = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=0)
    # Without GPUs, Accelerate connects the processes only with cpu=True.
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), dataloader_config=configuration)
    # Each rank needs its own dropout masks.
    set_seed(0, device_specific=True)
    training, validation = load_data()
    model = make_model()
    model, optimizer, data = accelerator.prepare(
        model,
        torch.optim.Adam(model.parameters(), lr=2e-3),
        DataLoader(training, batch_size=BATCH_SIZE, shuffle=True),
    )
    loss_fn = nn.CrossEntropyLoss()

    def step(_engine: Engine, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y = batch
        model.train()
        optimizer.zero_grad()
        loss: torch.Tensor = loss_fn(model(x), y)
        accelerator.backward(loss)
        optimizer.step()
        return loss.detach()

    trainer = Engine(step)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: data.set_epoch(engine.state.epoch))
    metrics = {"accuracy": Accuracy(), "loss": Loss(loss_fn)}
    evaluator = create_supervised_evaluator(accelerator.unwrap_model(model), metrics, accelerator.device)
    # Accelerate would repeat samples until all ranks have the same number, and the metrics would count them twice.
    part = Subset(validation, range(rank(), len(validation), world_size()))
    validation_data = DataLoader(part, batch_size=128)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        evaluator.run(validation_data)

    @evaluator.on(Events.COMPLETED)
    @rank_zero_only
    def show() -> None:
        accuracy, loss = evaluator.state.metrics["accuracy"], evaluator.state.metrics["loss"]
        print(f"epoch {trainer.state.epoch}: accuracy {accuracy:.4f}, loss {loss:.4f}")

    checkpoint = ModelCheckpoint(
        f"{FOLDER}/checkpoints",
        resume="auto",
        to_save={"model": model, "optimizer": optimizer, "trainer": trainer},
    )
    checkpoint.attach(trainer)
    with MLflowLogger(f"sqlite:///{FOLDER}/mlflow.db", "accelerate_digits") as logger:
        setup_logging(trainer, logger, optimizers=optimizer, evaluators=evaluator, every=10)
        trainer.run(data, max_epochs=number_of_epochs())
    accelerator.end_training()


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


def number_of_epochs() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=5)
    epochs: int = parser.parse_args().epochs
    return epochs


if __name__ == "__main__":
    main()
