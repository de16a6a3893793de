"""Fit a regression model, and log its graph and its losses to TensorBoard.

pip install glowplug glowplug-metrics glowplug-tensorboard scikit-learn
python docs/examples/regression_fit.py
python -m tensorboard.main --logdir runs/regression
python docs/examples/regression_fit.py --picture losses.png      also draw the losses (needs matplotlib)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from glowplug import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from glowplug.loggers import OutputHandler
from glowplug_metrics import Loss
from glowplug_tensorboard import TensorboardLogger

Batches = Iterable[Any]


def fit(
    model: nn.Module,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    get_dataloader: Callable[[], tuple[Batches, Batches]],
    learning_rate: float,
    log_interval: int,
    log_dict: dict[str, Any],
) -> dict[str, float]:
    """Train a model and log the run.

    Args:
        model: Maps inputs to predictions.
        loss: ``loss(y_pred, y)``, the mean over a batch.
        get_dataloader: Returns the batches for training and for validation.
        learning_rate: The learning rate of Adam.
        log_interval: Log the training loss every ``log_interval`` iterations.
        log_dict: Parameters to log, including ``"log_dir"`` (the folder for TensorBoard's files) and ``"max_epochs"``.

    Returns:
        The mean loss of each set after the last epoch, by name.
    """
    train_loader, validation_loader = get_dataloader()
    trainer = create_supervised_trainer(model, torch.optim.Adam(model.parameters(), learning_rate), loss)
    loaders = {"training": train_loader, "validation": validation_loader}
    evaluators = {name: create_supervised_evaluator(model, {"average_loss": Loss(loss)}) for name in loaders}

    with TensorboardLogger(log_dict["log_dir"]) as logger:
        logger.log_params({"learning_rate": learning_rate, **log_dict})
        x, _ = next(iter(train_loader))
        logger.log_graph(model, x)
        logger.attach(
            trainer,
            Events.ITERATION_COMPLETED(every=log_interval),
            OutputHandler("training", output_transform=lambda loss: {"loss": loss}),
        )
        for name, evaluator in evaluators.items():
            logger.attach(evaluator, Events.COMPLETED, OutputHandler(name, metric_names="all"))

        @trainer.on(Events.EPOCH_COMPLETED)
        def evaluate(engine: Engine) -> None:
            for name, loader in loaders.items():
                evaluators[name].run(loader)
            if engine.state.epoch % 5 == 0:
                means = ", ".join(f"{name} {value:.4f}" for name, value in losses(evaluators).items())
                print(f"epoch {engine.state.epoch:2}, average losses: {means}")

        trainer.run(train_loader, max_epochs=log_dict["max_epochs"])
    return losses(evaluators)


def losses(evaluators: dict[str, Engine]) -> dict[str, float]:
    return {name: evaluator.state.metrics["average_loss"] for name, evaluator in evaluators.items()}


def get_dataloader() -> tuple[Batches, Batches]:
    """Return batches of 342 patients for training and 100 for validation: 10 measurements and the target."""
    diabetes = load_diabetes()
    x = torch.tensor(scale(diabetes.data), dtype=torch.float32)
    y = torch.tensor(scale(diabetes.target), dtype=torch.float32)[:, None]
    train, validation = random_split(TensorDataset(x, y), [342, 100])
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(validation, batch_size=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("runs/regression"), help="folder for logs")
    parser.add_argument("--picture", type=Path, help="file for a picture of the losses")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
    log_dict = {"log_dir": str(options.output), "max_epochs": options.epochs}
    final = fit(model, nn.functional.mse_loss, get_dataloader, 0.003, log_interval=5, log_dict=log_dict)
    print(f"fraction of the variance explained: {1 - final['validation']:.2f}")
    if options.picture:
        draw(options.picture, options.output)


def draw(path: Path, log_dir: Path) -> None:
    """Draw the losses from TensorBoard's file."""
    import matplotlib as mpl
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    mpl.use("agg")
    from matplotlib import pyplot as plt

    events = EventAccumulator(str(log_dir)).Reload()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
    for axis, tag in (
        (left, "training/loss"),
        (right, "training/average_loss"),
        (right, "validation/average_loss"),
    ):
        scalars = events.Scalars(tag)
        axis.plot([scalar.step for scalar in scalars], [scalar.value for scalar in scalars], label=tag)
        axis.legend()
    left.set(xlabel="iteration", ylabel="loss")
    right.set(xlabel="epoch")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
