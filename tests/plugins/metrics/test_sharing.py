"""Classification metrics share the statistics of a batch only."""

import gc
import pickle
import weakref

import numpy as np
import pytest
import torch

from glowplug import BatchFiltered, Engine, Events
from glowplug.exceptions import GlowplugWarning
from glowplug_metrics import (
    F1,
    Accuracy,
    ClassificationReport,
    ConfusionMatrix,
    Loss,
    MetricGroup,
    Precision,
    Recall,
    TopKCategoricalAccuracy,
    counting,
    mIoU,
)
from glowplug_metrics.batch import Batch

DATA = [
    (torch.eye(3)[torch.tensor(predicted)], torch.tensor(target))
    for predicted, target in (([0, 1, 1, 2], [0, 1, 2, 2]), ([2, 2], [1, 2]), ([0], [1]))
]


@pytest.fixture
def calls(monkeypatch):
    """Return a list of the counting functions that are called."""
    names = []

    def recorded(name):
        function = getattr(counting, name)
        return lambda *arguments: names.append(name) or function(*arguments)

    for name in ("labels_of", "confusions", "class_counts", "label_counts", "num_not_binary"):
        monkeypatch.setattr(counting, name, recorded(name))
    return names


def made():
    """Return one metric of each class by name."""
    return {
        "accuracy": Accuracy(),
        "precision": Precision(),
        "recall": Recall(average="weighted"),
        "f1": F1(average=False),
        "report": ClassificationReport(),
        "cm": ConfusionMatrix(3),
        "miou": mIoU(ConfusionMatrix(3)),
        "top": TopKCategoricalAccuracy(2),
    }


def alone(data=DATA):
    """Return the values of separately updated metrics."""
    values = made()
    for name, metric in values.items():
        for batch in data:
            metric.update(batch)
        values[name] = metric.compute()
    return values


def assert_same(published, right):
    """Compare two mappings of values."""
    assert set(published) == set(right)
    for name, value in right.items():
        assert np.array_equal(published[name], value), name


def test_metrics_of_one_engine_count_once(calls):
    """Metrics of one engine compute labels and matrix once per batch, with unchanged values."""
    right = alone()
    engine = Engine(lambda engine, batch: batch)
    calls.clear()
    for name, metric in made().items():
        metric.attach(engine, name)
    published = engine.run(DATA).metrics
    assert sorted(calls) == sorted(["labels_of", "confusions"] * len(DATA))
    assert_same(published, right)


def test_metrics_of_a_group_count_once(calls):
    """Metrics of a group count each batch once, attached or updated directly."""
    right = alone()
    engine = Engine(lambda engine, batch: batch)
    MetricGroup(made()).attach(engine, "group")
    by_hand = MetricGroup(made())
    calls.clear()
    published = engine.run(DATA).metrics
    assert sorted(calls) == sorted(["labels_of", "confusions"] * len(DATA))
    del published["group"]
    assert_same(published, right)
    calls.clear()
    for batch in DATA:
        by_hand.update(batch)
    assert len(calls) == 2 * len(DATA)
    assert torch.equal(by_hand.compute()["cm"], right["cm"])


def test_binary_values_are_checked_once(calls):
    """The check for values 0 and 1 is shared."""
    engine = Engine(lambda engine, batch: batch)
    for metric in (Accuracy(is_multilabel=True), Precision(is_multilabel=True), Recall(is_multilabel=True)):
        metric.attach(engine, type(metric).__name__)
    engine.run([(torch.ones(4, 2).int(), torch.ones(4, 2).int())])
    assert sorted(calls) == ["label_counts", "num_not_binary"]


def test_one_output_transform_is_called_once():
    """A shared output_transform is called once; other transforms get separate batches."""
    asked = []

    def shared_transform(output):
        asked.append("shared")
        return output

    def own_transform(output):
        asked.append("own")
        return output[0].flip(0), output[1]

    engine = Engine(lambda engine, batch: batch)
    Precision(shared_transform).attach(engine, "precision")
    Recall(own_transform).attach(engine, "flipped")
    ConfusionMatrix(3, output_transform=shared_transform).attach(engine, "cm")
    published = engine.run(DATA[:1]).metrics
    assert sorted(asked) == ["own", "shared"]
    assert published["precision"].tolist() == [1.0, 0.5, 1.0]
    assert published["flipped"].tolist() == [0.0, 1.0, 0.0]


def test_reused_buffers_are_counted_again():
    """A tensor that is overwritten for each batch is counted each time."""
    memory = torch.zeros(4, 3).numpy()
    scores, labels = torch.from_numpy(memory), torch.tensor([0, 1, 2, 2])

    def step(engine, batch):
        memory[:] = torch.eye(3)[
            torch.tensor(batch)
        ].numpy()  # this does not change the version of the tensor
        return scores, labels

    engine = Engine(step)
    Precision(average="micro").attach(engine, "precision")
    ConfusionMatrix(3).attach(engine, "every second", BatchFiltered(every=2))
    Recall(average="micro").attach(engine, "recall")
    published = engine.run([[0, 1, 2, 2], [0, 0, 0, 0]]).metrics
    assert published["precision"] == published["recall"] == 5 / 8
    assert published["every second"].tolist() == [[1, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert engine.run([[0, 0, 0, 0]] * 2).metrics["precision"] == 1 / 4


def test_in_place_output_transform():
    """An in-place output_transform is applied once and does not affect gradients."""
    engine = Engine(lambda engine, batch: (batch[0].clone().requires_grad_(), batch[1]))
    for metric in (
        Precision(average="micro"),
        Recall(average="micro", output_transform=lambda out: (out[0].neg_(), out[1])),
    ):
        metric.attach(engine, type(metric).__name__)
    published = engine.run(DATA[:1]).metrics
    assert published["Precision"] == 3 / 4
    assert published["Recall"] != published["Precision"]


def test_batches_have_no_gradients():
    """Statistics of a batch have no gradients."""
    batch = Batch(torch.eye(2).requires_grad_(), torch.ones(2).requires_grad_())
    assert not batch.y_pred.requires_grad
    assert not batch.y.requires_grad


def test_output_before_a_load_is_ignored():
    """After a load, a metric ignores the last output of the engine."""
    engine, precision = Engine(lambda engine, batch: batch), Precision(average="micro")
    precision.attach(engine, "precision")
    precision.update(DATA[0])
    precision.keep_for_epoch(1, engine.state.iteration)
    with pytest.warns(GlowplugWarning, match="skips one update"):
        engine.fire_event(Events.ITERATION_COMPLETED)
    engine.state.output = DATA[1]
    engine.fire_event(Events.ITERATION_COMPLETED)
    assert precision.compute() == 4 / 6


def test_update_keeps_no_references():
    """An update keeps neither outputs nor engines alive."""
    engine = Engine(lambda engine, batch: tuple(t.clone() for t in batch))
    for metric in made().values():
        metric.attach(engine, str(id(metric)))
    outputs = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: outputs.append(weakref.ref(engine.state.output[0]))
    )
    engine.run(DATA)
    engine.state.output = None
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert [ref() for ref in outputs] == [None] * len(DATA)
    assert gone() is None


def test_detach_does_not_affect_other_metrics():
    """Detaching a metric does not affect others, and the last one removes all registrations."""
    engine = Engine(lambda engine, batch: batch)
    before = engine.describe()
    precision, recall, cm = Precision(average="micro"), Recall(average="micro"), ConfusionMatrix(3)
    handles = [metric.attach(engine, type(metric).__name__) for metric in (precision, recall, cm)]
    precision.detach(engine)
    assert set(engine.run(DATA).metrics) == {"Recall", "ConfusionMatrix"}
    assert engine.state.metrics["Recall"] == 4 / 7
    handles[1].remove()
    handles[2].remove()
    assert engine.describe() == before
    precision.attach(engine, "again")
    assert engine.run(DATA).metrics == {"again": 4 / 7}


def test_metric_with_two_names_counts_once():
    """A metric with two names and a formula of it is updated once."""
    engine, precision = Engine(lambda engine, batch: batch), Precision(average="micro")
    precision.attach(engine, "one")
    precision.attach(engine, "two")
    (1 - precision).attach(engine, "rest")
    published = engine.run(DATA).metrics
    assert published["one"] == published["two"] == 1 - published["rest"] == 4 / 7
    assert precision._num_examples == 7


def test_overridden_update_is_called():
    """Subclasses that override update() or iteration_completed() are called."""

    class OwnUpdate(Precision):
        def update(self, output):
            super().update((output[0].flip(0), output[1]))

    class OwnHandler(Recall):
        seen = 0

        def iteration_completed(self, engine):
            self.seen += 1
            super().iteration_completed(engine)

    engine = Engine(lambda engine, batch: batch)
    own, handler = OwnUpdate(average="micro"), OwnHandler(average="micro")
    for metric in (own, handler, Precision(average="micro")):
        metric.attach(engine, type(metric).__name__)
    assert engine.run(DATA[:1]).metrics == {"OwnUpdate": 1 / 4, "OwnHandler": 3 / 4, "Precision": 3 / 4}
    assert handler.seen == 1


def test_skip_unrolling_differs_between_metrics():
    """Metrics with different skip_unrolling can be attached together."""
    seen = []

    class Whole(Accuracy):
        def update(self, output):
            seen.append(output)

    engine = Engine(lambda engine, batch: batch)
    Precision(average="micro").attach(engine, "precision")
    Recall(average="micro").attach(engine, "recall")
    engine.add_event_handler(Events.ITERATION_COMPLETED, Whole(skip_unrolling=True).iteration_completed)
    samples = list(torch.eye(3)), [0, 1, 1]
    assert engine.run([samples]).metrics == {"precision": 2 / 3, "recall": 2 / 3}
    assert seen == [samples]


def test_other_metrics_are_unaffected():
    """A Loss between them, and other usages, are updated as before."""
    engine = Engine(lambda engine, batch: batch)
    Precision(average="micro").attach(engine, "precision")
    Loss(torch.nn.functional.cross_entropy).attach(engine, "loss")
    Recall(average="micro").attach(engine, "last", "batch_wise")
    published = engine.run(DATA).metrics
    assert published["precision"] == 4 / 7
    assert published["last"] == 0.0
    assert published["loss"] == pytest.approx(0.98, abs=0.2)


def test_engine_with_metrics_can_be_pickled():
    """A pickled engine has independent metrics that continue."""
    engine = Engine(passed_on)
    for metric in (Precision(average="micro"), Recall(average="micro")):
        metric.attach(engine, type(metric).__name__)
    engine.run(DATA[:1])
    copied = pickle.loads(pickle.dumps(engine))
    assert copied.run(DATA).metrics == {"Precision": 4 / 7, "Recall": 4 / 7}
    assert engine.run(DATA[:1]).metrics == {"Precision": 3 / 4, "Recall": 3 / 4}


def passed_on(engine, batch):
    """Return the batch."""
    return batch
