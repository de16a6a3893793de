"""The cost of metrics on 32 predictions of 10 classes, compared with the torch calls that they need."""

import ignite.engine
import ignite.metrics
import torch
from harness import FLOOR, GLOWPLUG, IGNITE, Goal, Row, per_iteration
from torch import nn
from torch.nn.functional import cross_entropy

import glowplug
import glowplug_metrics

ITERATIONS, CLASSES = 300, 10
OUTPUT = (torch.randn(32, CLASSES), torch.randint(CLASSES, (32,)))

ARGUMENTS = {
    "Accuracy": (),
    "Loss": (nn.CrossEntropyLoss(),),
    "Precision": (),
    "Recall": (),
    "ConfusionMatrix": (CLASSES,),
}


def attached(engine_library, metrics_library, names):
    """Return a factory of engines with these metrics."""

    def make():
        engine = engine_library.Engine(lambda engine, batch: OUTPUT)
        for name in names:
            getattr(metrics_library, name)(*ARGUMENTS[name]).attach(engine, name)
        return engine.run

    return make


def counted():
    """Return the torch calls of an accuracy in a loop by hand."""

    def run(data):
        right = examples = 0
        for _ in data:
            y_pred, y = OUTPUT
            right += (y_pred.argmax(1) == y).count_nonzero()
            examples += y.numel()
        return int(right) / examples

    return run


def counted_with_loss():
    """Return the torch calls of an accuracy and a loss in a loop by hand."""

    def run(data):
        right = examples = 0
        loss = 0.0
        for _ in data:
            y_pred, y = OUTPUT
            right += (y_pred.argmax(1) == y).count_nonzero()
            loss += cross_entropy(y_pred, y) * len(y)
            examples += y.numel()
        return int(right) / examples, float(loss) / examples

    return run


def row(names, goals, floor=None):
    """Return the row of these metrics, per batch."""
    variants = {
        FLOOR: floor,
        IGNITE: attached(ignite.engine, ignite.metrics, names),
        GLOWPLUG: attached(glowplug, glowplug_metrics, names),
    }
    return Row(
        f"{' + '.join(names)}, batch 32, attached",
        {name: per_iteration(make, ITERATIONS) for name, make in variants.items() if make is not None},
        goals,
        rounds=45,  # they are short, and few of them are left alone by the rest of the machine
    )


def rows():
    """Yield the rows of this theme."""
    yield row(["Accuracy"], (Goal(2, FLOOR),), counted)
    yield row(["Accuracy", "Loss"], (Goal(2, FLOOR),), counted_with_loss)
    yield row(list(ARGUMENTS), (Goal(1 / 4, IGNITE),))
