"""Fixtures for tests that open the pages of a backend in a browser."""

import pytest
from browser import browser, eventually  # noqa: F401 - fixtures


@pytest.fixture
def is_shown():
    """Return whether one of the curves on a page has the shape of logged values: ``is_shown(points, curves)``."""

    def check(points, curves):
        import numpy as np

        steps, values = np.array(points, dtype=float).T

        def likeness(heights):
            at = np.linspace(steps[0], steps[-1], len(heights))
            logged = np.interp(at, steps, values)
            return np.corrcoef(logged, heights)[0, 1] if heights.std() and logged.std() else 0.0

        return max(map(likeness, curves), default=0.0) > 0.95

    return check


@pytest.fixture
def train():
    """Train a small classifier with ``setup_logging``: ``train(logger)`` returns the points of each curve."""

    def run(logger):
        import torch
        from torch import nn

        from glowplug import Engine, Events, create_supervised_trainer
        from glowplug.loggers import setup_logging

        torch.manual_seed(0)
        inputs = torch.randn(512, 8)
        labels = (inputs @ torch.randn(8, 4)).argmax(1)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.2 + epoch % 8 / 8)
        trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
        evaluator = Engine(lambda engine, batch: (model(batch[0]).argmax(1) == batch[1]).float().mean())
        points = {"training/loss": [], "validation/accuracy": [], "lr/group_0": []}

        @trainer.on(Events.ITERATION_COMPLETED)
        def remember(engine):
            step = engine.state.iteration
            points["training/loss"].append((step, float(engine.state.output)))
            points["lr/group_0"].append((step, optimizer.param_groups[0]["lr"]))

        @evaluator.on(Events.COMPLETED)
        def score(engine):
            engine.state.metrics["accuracy"] = float(engine.state.output)
            points["validation/accuracy"].append((trainer.state.epoch, engine.state.metrics["accuracy"]))

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate():
            evaluator.run([(inputs, labels)])
            schedule.step()

        logger.log_params({"optimizer": "Adam", "hidden": 16})
        setup_logging(trainer, logger, optimizers=optimizer, evaluators=evaluator)
        trainer.run(list(zip(inputs.split(64), labels.split(64), strict=True)), max_epochs=24)
        return points

    return run
