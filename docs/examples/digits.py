"""Train a small network on handwritten digits, with handlers, metrics and loggers from seven plugins.

python docs/examples/digits.py             a new run
python docs/examples/digits.py --resume    continue from the newest checkpoint
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from glowplug.loggers import (
    OptimizerParamsHandler,
    OutputHandler,
    WeightsHistHandler,
)
from glowplug_early_stopping import EarlyStopping
from glowplug_metrics import Accuracy, Loss, RunningAverage
from glowplug_mlflow import MLflowLogger
from glowplug_model_checkpoint import ModelCheckpoint
from glowplug_progress import ProgressBar
from glowplug_tensorboard import TensorboardLogger
from glowplug_terminate_on_nan import TerminateOnNan


def main() -> None:
    options = parse_options()
    options.output = options.output or run_folder(Path("runs"), resume=options.resume)
    torch.manual_seed(options.seed)
    train_data, validation_data = load_data(options.seed)
    train_loader = DataLoader(train_data, batch_size=options.batch_size, shuffle=True)
    validation_loader = DataLoader(validation_data, batch_size=256)

    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    loss_fn = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, optimizer, loss_fn)
    evaluator = create_supervised_evaluator(model, metrics={"accuracy": Accuracy(), "loss": Loss(loss_fn)})

    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    trainer.attach(TerminateOnNan())
    ProgressBar(desc="epochs").attach(
        trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED
    )
    ProgressBar(desc="iterations").attach(trainer, metric_names=["loss"])

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        evaluator.run(validation_loader)

    stopper = EarlyStopping(patience=options.patience, score_function="accuracy", trainer=trainer)
    stopper.attach(evaluator)
    checkpoint = ModelCheckpoint(
        options.output / "checkpoints",
        filename_prefix="best",
        score_function=lambda _: evaluator.state.metrics["accuracy"],
        score_name="accuracy",
        n_saved=3,
        resume="auto" if options.resume else None,
    )
    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer}
    checkpoint.attach(trainer, Events.EPOCH_COMPLETED, to_save)
    if options.resume:
        print_start(checkpoint.resumed_from, options.output / "checkpoints")

    tensorboard = TensorboardLogger(log_dir=options.output / "tensorboard")
    mlflow = MLflowLogger(
        tracking_uri=f"sqlite:///{options.output / 'mlflow.db'}",
        experiment_name="digits",
        run_name=options.name,
    )
    # Open MLflow before the progress bars, because MLflow prints messages while it creates its database.
    mlflow.ensure_open()
    with tensorboard, mlflow:
        mlflow.log_params({name: str(value) for name, value in vars(options).items()})
        for logger in (tensorboard, mlflow):
            logger.attach(
                trainer,
                Events.ITERATION_COMPLETED(every=10),
                OutputHandler(
                    "training", output_transform=lambda loss: {"batch_loss": loss}, metric_names=["loss"]
                ),
            )
            logger.attach(trainer, Events.EPOCH_STARTED, OptimizerParamsHandler(optimizer))
            logger.attach(evaluator, Events.COMPLETED, OutputHandler("validation", metric_names="all"))
        tensorboard.attach(trainer, Events.EPOCH_COMPLETED, WeightsHistHandler(model))
        trainer.run(train_loader, max_epochs=options.epochs)
    torch.save(model.state_dict(), options.output / "model.pt")

    report(trainer, why_it_ended(trainer, stopper), checkpoint, model, validation_loader)
    print(f"TensorBoard       {sys.executable} -m tensorboard.main --logdir {options.output / 'tensorboard'}")
    print(f"MLflow            {sys.executable} -m mlflow ui --backend-store-uri {mlflow.tracking_uri}")
    print(f"                  then open {mlflow.page_url()}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument(
        "--patience", type=int, default=8, help="stop after this many epochs without a better accuracy"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--name", default="digits", help="name of the run in MLflow")
    parser.add_argument(
        "--output", type=Path, help="folder for logs and checkpoints; default: a new one, runs/digits-<n>"
    )
    return parser.parse_args()


def run_folder(parent: Path, *, resume: bool) -> Path:
    """Return the folder for a new run or, to resume, the folder of the last run."""
    numbers = [int(path.name.removeprefix("digits-")) for path in parent.glob("digits-*")]
    last = max(numbers, default=0)
    return parent / f"digits-{max(last, 1) if resume else last + 1}"


def load_data(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Return 1,437 images for training and 360 for validation, each 1 x 8 x 8 in [0, 1]."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    train, validation = train_test_split(
        range(len(labels)), test_size=0.2, stratify=labels, random_state=seed
    )
    return TensorDataset(images[train], labels[train]), TensorDataset(images[validation], labels[validation])


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def print_start(resumed_from: Path | str | None, folder: Path) -> None:
    if resumed_from is None:
        print(f"there is no checkpoint in {folder} yet: this is a new run")
    else:
        print(f"resuming from {resumed_from}")


def why_it_ended(trainer: Engine, stopper: EarlyStopping) -> str:
    """Return the reason why the run ended."""
    state = trainer.state
    if stopper.stop_reason is not None:
        return f"early stopping after epoch {state.epoch}: {stopper.stop_message}"
    if state.epoch == state.max_epochs:
        return f"all {state.max_epochs} epochs are done"
    outcome = state.outcome.value if state.outcome else "not run"
    return f"{outcome} in epoch {state.epoch}, iteration {state.iteration}"


def report(
    trainer: Engine,
    reason: str,
    checkpoint: ModelCheckpoint,
    model: nn.Module,
    data: DataLoader[object],
) -> None:
    """Evaluate the best checkpoint in a new model, and print the results of the run."""
    best = checkpoint.best_checkpoint
    if best is None:
        sys.exit("no checkpoint was saved")
    reloaded, best_trainer = make_model(), Engine(lambda *_: None)
    ModelCheckpoint.load_objects({"model": reloaded, "trainer": best_trainer}, best)
    metrics = {"accuracy": Accuracy(), "loss": Loss(nn.CrossEntropyLoss())}
    now = create_supervised_evaluator(model, metrics=metrics).run(data).metrics
    metrics = {"accuracy": Accuracy(), "loss": Loss(nn.CrossEntropyLoss())}
    again = create_supervised_evaluator(reloaded, metrics=metrics).run(data).metrics

    table = Table(title="handwritten digits", caption=reason)
    for column in ("", "epoch", "validation accuracy", "validation loss"):
        table.add_column(column, justify="left" if not column else "right")
    for name, epoch, metrics in (
        ("at the end", trainer.state.epoch, now),
        ("best checkpoint, reloaded", best_trainer.state.epoch, again),
    ):
        table.add_row(name, str(epoch), f"{metrics['accuracy']:.4f}", f"{metrics['loss']:.4f}")
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    print(f"best checkpoint   {best}")


if __name__ == "__main__":
    main()
