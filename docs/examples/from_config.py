"""Create a whole run from a TOML file: optimizer, scheduler, training options, metrics, handlers and a logger.

    pip install glowplug glowplug-early-stopping glowplug-jsonl glowplug-metrics glowplug-model-checkpoint glowplug-progress \
        glowplug-terminate-on-nan scikit-learn
    python docs/examples/from_config.py                 use from_config.toml beside the script
    python docs/examples/from_config.py other.toml      use another file

The script needs Python 3.11 for tomllib. A misspelt name or option raises an error that suggests the closest match.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import tomllib
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from glowplug.handlers import create as create_handler, global_step_from_engine
from glowplug.metrics import create as create_metric
from glowplug_metrics import Accuracy, Loss
from glowplug_model_checkpoint import ModelCheckpoint


def main(config_file: Path) -> None:
    config = tomllib.loads(config_file.read_text(encoding="utf-8"))
    torch.manual_seed(0)
    train_loader, validation_loader = load_data()
    model, loss_fn = make_model(), nn.CrossEntropyLoss()
    optimizer = build(partial(of_torch, torch.optim), config["optimizer"], params=model.parameters())
    scheduler = build(partial(of_torch, torch.optim.lr_scheduler), config["scheduler"], optimizer=optimizer)
    trainer = create_supervised_trainer(
        model, optimizer, loss_fn, lr_scheduler=scheduler, **config["training"]
    )
    metrics = {name: build(create_metric, options) for name, options in config["metrics"].items()}
    evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(loss_fn), **metrics})
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(validation_loader))

    for name, engine in {"trainer": trainer, "evaluator": evaluator}.items():
        engine.attach(*(build(create_handler, options) for options in config["handlers"][name]))
    checkpoint = build(create_handler, config["checkpoint"], to_save={"model": model})
    evaluator.attach(checkpoint)
    with build(create_handler, config["logger"]) as logger:
        logger.attach_output_handler(
            evaluator,
            Events.COMPLETED,
            tag="validation",
            metric_names="all",
            global_step_transform=global_step_from_engine(trainer),
        )
        trainer.run(train_loader, **config["run"])
    report(trainer, evaluator, checkpoint, validation_loader)


def build(create: Callable[..., Any], options: dict[str, Any], **objects: Any) -> Any:
    """Create the object that a table of the file describes; ``objects`` are arguments that a file cannot contain."""
    named = {**options, **objects}
    return create(named.pop("name"), **named)


def of_torch(module: ModuleType, name: str, **options: Any) -> Any:
    """Create a torch optimizer or scheduler."""
    return getattr(module, name)(**options)


def load_data() -> tuple[DataLoader[tuple[torch.Tensor, ...]], DataLoader[tuple[torch.Tensor, ...]]]:
    """Return batches of 120 flowers for training and 30 for validation: 4 lengths in cm, and the species (0 to 2)."""
    iris = load_iris()
    lengths, kinds = torch.tensor(iris.data, dtype=torch.float32), torch.tensor(iris.target)
    train, validation = train_test_split(
        range(len(kinds)), test_size=0.2, stratify=iris.target, random_state=0
    )
    return (
        DataLoader(TensorDataset(lengths[train], kinds[train]), batch_size=16, shuffle=True),
        DataLoader(TensorDataset(lengths[validation], kinds[validation]), batch_size=30),
    )


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))


def report(
    trainer: Engine,
    evaluator: Engine,
    checkpoint: ModelCheckpoint,
    validation_loader: DataLoader[tuple[torch.Tensor, ...]],
) -> None:
    """Print the attached handlers, how the run ended, and the accuracy of a new model with the best checkpoint."""
    print(trainer.describe(), evaluator.describe(), sep="\n\n", end="\n\n")
    best = checkpoint.best_checkpoint
    if best is None:
        sys.exit("the run ended before its first checkpoint")
    model = make_model()
    ModelCheckpoint.load_objects({"model": model}, best)
    scores = create_supervised_evaluator(model, metrics={"accuracy": Accuracy()}).run(validation_loader)
    outcome = trainer.state.outcome.value if trainer.state.outcome else "not run"
    print(f"{outcome} after {trainer.state.epoch} epochs")
    print(f"validation accuracy {scores.metrics['accuracy']:.4f} with {best}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_suffix(".toml"))
