"""Checks the installed distributions of glowplug in their environment, in the current folder.

    python .ci/smoke.py <version>

Each distribution is imported, and a plugin that is alone is checked by ``glowplug plugins check``. Then a trainer runs three
iterations with a handler, logger or metric of each plugin.
"""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from glowplug import Engine, Events, GlowplugWarning, create_supervised_trainer, handlers, metrics
from glowplug.loggers import close_loggers

ITERATIONS = 3
DATA = [(torch.ones(4, 2), torch.ones(4, 1))] * ITERATIONS


class Run(NamedTuple):
    """A trainer with its model and optimizer."""

    trainer: Engine
    model: nn.Module
    optimizer: torch.optim.Optimizer


Attach = Callable[[Run], object]


def attach_logger(name: str, *arguments: str) -> Attach:
    """Return a function that attaches a logger, which logs the loss."""
    return lambda run: getattr(handlers, name)(*arguments).attach_output_handler(
        run.trainer, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda loss: {"loss": loss}
    )


def search(run: Run) -> None:
    """Search a learning rate."""
    to_save = {"model": run.model, "optimizer": run.optimizer}
    with handlers.FastaiLRFinder().attach(run.trainer, to_save, num_iter=ITERATIONS) as searching:
        searching.run(DATA)


ATTACH: dict[str, Attach] = {
    "early-stopping": lambda run: handlers.EarlyStopping(
        2, lambda engine: -engine.state.output, run.trainer
    ).attach(run.trainer, Events.EPOCH_COMPLETED),
    "ema": lambda run: handlers.EMAHandler(run.model).attach(run.trainer),
    "jsonl": attach_logger("JsonLinesLogger", "log.jsonl"),
    "lr-finder": search,
    "metrics": lambda run: metrics.Average().attach(run.trainer, "loss"),
    "mlflow": attach_logger("MLflowLogger", "sqlite:///mlflow.db"),
    "model-checkpoint": lambda run: handlers.ModelCheckpoint(
        "checkpoints", to_save={"model": run.model, "trainer": run.trainer}
    ).attach(run.trainer),
    "monitors": lambda run: handlers.DeviceUsage().attach(run.trainer),
    "preemption": lambda run: handlers.Preemption().attach(run.trainer),
    "progress": lambda run: handlers.ProgressBar(style="rich").attach(run.trainer),
    "schedulers": lambda run: handlers.LinearCyclicalScheduler(
        run.optimizer, "lr", 0.1, 0.01, ITERATIONS
    ).attach(run.trainer),
    "tensorboard": attach_logger("TensorboardLogger", "events"),
    "terminate-on-nan": lambda run: handlers.TerminateOnNan().attach(run.trainer),
    "timers": lambda run: handlers.BasicTimeProfiler().attach(run.trainer),
    "torchmetrics": lambda run: metrics.TorchMetric(
        importlib.import_module("torchmetrics").MeanMetric()
    ).attach(run.trainer, "mean loss"),
    "wandb": attach_logger("WandbLogger"),
}
"""Attaches something of each plugin to a trainer."""


def main(version: str) -> None:
    """Check the distributions and run the trainer."""
    installed = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name.startswith("glowplug")
    }
    assert set(installed.values()) == {version}, installed
    for name in installed:
        package = importlib.import_module(name.replace("-", "_"))
        assert package.__version__ == version, f"{name} {package.__version__}"
    plugins = [plugin["name"] for plugin in listed_plugins()]
    names = {name.removeprefix("glowplug-") for name in installed} - {"glowplug", "testing"}
    assert set(plugins) == names, f"installed: {sorted(names)}, listed: {plugins}"
    # With all plugins, it would take a minute to check again what was checked with each.
    if len(plugins) == 1:
        glowplug("plugins", "check", *plugins)
    os.environ["WANDB_MODE"] = "offline"
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss)
    for name in plugins:
        ATTACH[name](Run(trainer, model, optimizer))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GlowplugWarning)
        state = trainer.run(DATA)
        close_loggers(state.outcome)
    # A logger reports what its backend refused.
    reported = [str(warning.message) for warning in caught if issubclass(warning.category, GlowplugWarning)]
    assert not reported, reported
    assert state.iteration == ITERATIONS, state
    assert not trainer.faults, trainer.faults


def listed_plugins() -> list[dict[str, object]]:
    """Return the plugins that ``glowplug plugins list`` shows, all of which must work."""
    plugins: list[dict[str, object]] = json.loads(glowplug("plugins", "list", "--json"))
    assert all(plugin["status"] == "ok" for plugin in plugins), plugins
    return plugins


def glowplug(*arguments: str) -> str:
    """Run a command of glowplug and return what it prints."""
    command = [sys.executable, "-m", "glowplug", *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout}")
    return ended.stdout


if __name__ == "__main__":
    main(sys.argv[1])
