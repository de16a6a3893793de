"""Compare four settings by cross-validation; in MLflow, each setting is a run, and its folds are child runs.

pip install glowplug glowplug-metrics glowplug-mlflow scikit-learn
python docs/examples/cross_validation.py
mlflow ui --backend-store-uri sqlite:///runs.db     shows the runs
"""

from __future__ import annotations

import itertools

import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Events, create_supervised_evaluator, create_supervised_trainer
from glowplug.handlers import MLflowLogger, OutputHandler
from glowplug.loggers import global_step_from_engine
from glowplug.metrics import Accuracy

STORE = "sqlite:///runs.db"
LEARNING_RATES = (0.01, 0.1)
WIDTHS = (4, 16)


def main() -> None:
    wine = load_wine()
    x = torch.tensor(wine.data, dtype=torch.float32)
    x, y = (x - x.mean(0)) / x.std(0), torch.tensor(wine.target)
    folds = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).chunk(3)
    for learning_rate, width in itertools.product(LEARNING_RATES, WIDTHS):
        name = f"learning rate {learning_rate}, width {width}"
        with MLflowLogger(STORE, "wine", run_name=name) as logger:
            logger.log_params({"learning_rate": learning_rate, "width": width})
            scores = [
                train(x, y, validation, learning_rate, width, fold, logger.run_id)
                for fold, validation in enumerate(folds)
            ]
            mean = sum(scores) / len(scores)
            logger.log_scalars({"accuracy": mean}, step=0)
        print(f"{name}: mean accuracy {mean:.3f}")


def train(
    x: Tensor,
    y: Tensor,
    validation: Tensor,
    learning_rate: float,
    width: int,
    fold: int,
    parent_run_id: str,
) -> float:
    """Train on the other folds, and return the accuracy on this fold."""
    torch.manual_seed(fold)
    is_training = torch.ones(len(x), dtype=torch.bool)
    is_training[validation] = False
    training_data = DataLoader(TensorDataset(x[is_training], y[is_training]), batch_size=16, shuffle=True)
    model = nn.Sequential(nn.Linear(13, width), nn.ReLU(), nn.Linear(width, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([(x[validation], y[validation])]))
    with MLflowLogger(STORE, "wine", run_name=f"fold {fold}", parent_run_id=parent_run_id) as logger:
        output = OutputHandler("training", output_transform=lambda loss: {"loss": loss})
        logger.attach(trainer, Events.EPOCH_COMPLETED, output)
        metrics = OutputHandler(
            "validation", ["accuracy"], global_step_transform=global_step_from_engine(trainer)
        )
        logger.attach(evaluator, Events.COMPLETED, metrics)
        trainer.run(training_data, max_epochs=5)
    return float(evaluator.state.metrics["accuracy"])


if __name__ == "__main__":
    main()
