"""setup_logging attaches the usual log handlers."""

import pytest

from glowplug import Engine, Events
from glowplug.loggers import Logger, setup_logging


class ListLogger(Logger):
    """Keep the scalars."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def write_scalars(self, scalars, step, timestamp):
        self.rows.append((step, scalars))


class Optimizer:
    """The part of an optimizer that is logged."""

    def __init__(self, lr):
        self.param_groups = [{"lr": lr}]


@pytest.fixture
def loggers():
    """Return two loggers, closed at the end."""
    with ListLogger() as first, ListLogger() as second:
        yield first, second


def evaluated(trainer, evaluator):
    """Run an evaluator after each epoch of a trainer, with a metric."""

    @evaluator.on(Events.COMPLETED)
    def publish(engine):
        engine.state.metrics["accuracy"] = 0.5

    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))


def test_everything(loggers):
    """The output and learning rates at every n-th iteration, metrics after each epoch and evaluation, in each logger."""
    trainer, evaluator = Engine(lambda engine, batch: 0.5 * batch), Engine(lambda engine, batch: None)
    evaluated(trainer, evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(mean=1.5))
    setup_logging(trainer, loggers, optimizers=Optimizer(0.1), evaluators=evaluator, every=2)
    trainer.run([1, 2, 3, 4], max_epochs=2)
    for logger in loggers:
        assert logger.flush()
        assert logger.rows[:4] == [
            (2, {"training/loss": 1.0}),
            (2, {"lr/group_0": 0.1}),
            (4, {"training/loss": 2.0}),
            (4, {"lr/group_0": 0.1}),
        ]
        assert sorted(map(str, logger.rows[4:6])) == sorted(
            map(str, [(1, {"validation/accuracy": 0.5}), (1, {"training/epoch/mean": 1.5})])
        )
        assert [step for step, row in logger.rows if "validation/accuracy" in row] == [1, 2]


def test_names(loggers):
    """Names of several optimizers and evaluators are prefixes."""
    trainer = Engine(lambda engine, batch: {"a": 1.0, "b": 2.0})
    evaluators = {name: Engine(lambda engine, batch: None) for name in ("valid", "test")}
    for evaluator in evaluators.values():
        evaluated(trainer, evaluator)
    optimizers = {"generator": Optimizer(0.1), "critic": Optimizer(0.2)}
    setup_logging(trainer, loggers[0], optimizers=optimizers, evaluators=evaluators)
    trainer.run([1])
    assert loggers[0].flush()
    names = {name for _, row in loggers[0].rows for name in row}
    assert names == {
        "training/a",
        "training/b",
        "generator/lr/group_0",
        "critic/lr/group_0",
        "valid/accuracy",
        "test/accuracy",
    }


def test_metric_with_the_name_of_the_output(loggers):
    """A metric that is called like the output has its own name, so that a resumed run loses no value of either."""

    def make(logger):
        trainer = Engine(lambda engine, batch: float(batch))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: trainer.state.metrics.update(loss=0.5))
        setup_logging(trainer, logger)
        return trainer

    first = make(loggers[0])
    first.run([1, 2, 3], max_epochs=1)
    loggers[0].close()
    second = make(loggers[1])
    second.load_state_dict(first.state_dict())
    second.run([1, 2, 3], max_epochs=2)
    assert loggers[1].flush()
    rows = [*loggers[0].rows, *loggers[1].rows]
    assert [(step, row["training/loss"]) for step, row in rows if "training/loss" in row] == [
        (step, float((step - 1) % 3 + 1)) for step in range(1, 7)
    ]
    assert [(step, row) for step, row in rows if "training/loss" not in row] == [
        (epoch, {"training/epoch/loss": 0.5}) for epoch in (1, 2)
    ]


@pytest.mark.parametrize("output", [(1.0, 2.0), "text", None, object()])
def test_other_outputs(loggers, output):
    """An output that is neither a number nor a mapping is not logged, without a warning."""
    trainer = Engine(lambda engine, batch: output)
    setup_logging(trainer, loggers[0])
    trainer.run([1])
    assert loggers[0].flush()
    assert loggers[0].rows == []


def test_detached(loggers):
    """The handle detaches everything."""
    trainer, evaluator = Engine(lambda engine, batch: 1.0), Engine(lambda engine, batch: None)
    setup_logging(trainer, loggers, optimizers=Optimizer(0.1), evaluators=evaluator).remove()
    assert not trainer.registrations()
    assert not evaluator.registrations()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loggers": []}, ValueError, "loggers is empty"),
        ({"loggers": ["tensorboard"]}, TypeError, "each item of loggers must be a Logger, got 'tensorboard'"),
        ({"every": 0}, ValueError, "every"),
        ({"optimizers": object()}, TypeError, "needs an optimizer with param_groups"),
        (
            {"evaluators": {"valid": None}},
            TypeError,
            "evaluators must be an engine or a mapping .*, got None",
        ),
        ({"evaluators": [None]}, TypeError, r"evaluators must be an engine or a mapping .*, got \[None\]"),
        ({"evaluators": {3: Engine(lambda engine, batch: None)}}, TypeError, "tag must be a string, got 3"),
        *(
            (
                {"evaluators": {name: Engine(lambda engine, batch: None)}},
                ValueError,
                f"name '{name}' is reserved for the trainer",
            )
            for name in ("training", "training/epoch")
        ),
    ],
)
def test_wrong_arguments(loggers, options, error, message):
    """Wrong arguments raise at once, and leave the trainer as it was."""
    trainer = Engine(lambda engine, batch: 1.0)
    with pytest.raises(error, match=message):
        setup_logging(trainer, **{"loggers": loggers, **options})
    assert not trainer.registrations()
