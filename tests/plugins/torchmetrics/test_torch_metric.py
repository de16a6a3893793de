"""TorchMetric: metrics of torchmetrics on an engine."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
import torchmetrics
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    MulticlassAccuracy,
    MulticlassF1Score,
)

from glowplug import BatchWise, Engine, Events, GlowplugWarning, Metric, RunningBatchWise
from glowplug.exceptions import NotComputableError
from glowplug_torchmetrics import TorchMetric
from glowplug_torchmetrics.gathering import gather

PREDS, TARGET = torch.tensor([0.9, 0.8, 0.3, 0.6, 0.1]), torch.tensor([1, 0, 1, 1, 0])
BATCHES = [(PREDS[:2], TARGET[:2]), (PREDS[2:4], TARGET[2:4]), (PREDS[4:], TARGET[4:])]


class Total(Metric):
    """A glowplug metric: the sum of the targets."""

    _state_dict_all_req_keys = ("total",)

    def reset(self):
        self.total = 0

    def update(self, output):
        self.total += int(output[1].sum())

    def compute(self):
        return self.total


def collection(**options):
    """Return a collection in which all metrics but one share their states."""
    parts = {"precision": BinaryPrecision(), "recall": BinaryRecall(), "auroc": BinaryAUROC()}
    return torchmetrics.MetricCollection(parts, **options)


def engine_with(metric, name="metric", usage=None):
    """Return an engine whose output is the batch, with the metric attached."""
    engine = Engine(lambda engine, batch: batch)
    metric.attach(engine, name, usage)
    return engine


def by_hand(metric):
    """Return the value of torchmetrics for all data at once."""
    return metric(PREDS, TARGET)


@pytest.mark.parametrize("kind", [BinaryAccuracy, BinaryF1Score, BinaryAUROC])
def test_attached_value_equals_torchmetrics(kind):
    """The attached value equals torchmetrics with all data at once, at each epoch (M-092)."""
    metrics = engine_with(TorchMetric(kind())).run(BATCHES, max_epochs=2).metrics
    assert metrics == {"metric": pytest.approx(by_hand(kind()).item())}
    assert isinstance(metrics["metric"], float)


def test_output_for_a_loss():
    """A metric ignores the keyword arguments that a Loss beside it needs (M-083)."""
    outputs = [(*batch, {"weight": None}) for batch in BATCHES]
    metrics = engine_with(TorchMetric(BinaryAccuracy())).run(outputs).metrics
    assert metrics == {"metric": pytest.approx(by_hand(BinaryAccuracy()).item())}


def test_usages_and_detach():
    """The usage applies, and detach() removes all registrations."""
    metric = TorchMetric(torchmetrics.SumMetric())
    engine, values = engine_with(metric, usage=BatchWise()), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: values.append(e.state.metrics["metric"]))
    engine.run([1.0, 2.0], max_epochs=2)
    metric.detach(engine, "batch_wise")
    metric.attach(engine, "metric", RunningBatchWise())
    engine.run([1.0, 2.0], max_epochs=2)
    metric.detach(engine, RunningBatchWise())
    assert values == [1.0, 2.0, 1.0, 2.0, 1.0, 3.0, 4.0, 6.0]
    assert not engine.has_event_handler(metric.iteration_completed)


def test_collection_is_a_mapping():
    """A collection publishes each value under its key, and all under its name."""
    metrics = engine_with(TorchMetric(collection(prefix="val_")), "scores").run(BATCHES).metrics
    expected = {
        name: pytest.approx(value.item()) for name, value in by_hand(collection(prefix="val_")).items()
    }
    assert metrics == {**expected, "scores": expected}
    assert all(isinstance(metrics[name], float) for name in expected)
    named = engine_with(TorchMetric(collection(), metrics_result_mode="named"), "scores").run(BATCHES).metrics
    assert list(named) == ["scores"]


def test_arithmetic_with_metrics_of_both_kinds():
    """Formulas of torchmetrics and glowplug metrics update each metric once."""
    scores = TorchMetric(collection())
    engine = engine_with((scores["precision"] + TorchMetric(BinaryAccuracy())) / Total(), "formula")
    scores.attach(engine, "scores")
    expected = (by_hand(BinaryPrecision()) + by_hand(BinaryAccuracy())).item() / 3
    assert engine.run(BATCHES).metrics["formula"] == pytest.approx(expected)
    assert scores.num_updates == 3


def test_compositions_of_torchmetrics():
    """Compositions of torchmetrics are accepted."""
    composed = BinaryPrecision() + BinaryRecall()
    expected = (by_hand(BinaryPrecision()) + by_hand(BinaryRecall())).item()
    assert engine_with(TorchMetric(composed)).run(BATCHES).metrics == {"metric": pytest.approx(expected)}


@pytest.mark.parametrize(
    "output",
    [
        (PREDS, TARGET),
        [PREDS, TARGET],
        {"y_pred": PREDS, "y": TARGET, "loss": 3.0},
        {"target": TARGET, "preds": PREDS},
        (PREDS.tolist(), TARGET.tolist()),
    ],
)
@pytest.mark.parametrize(
    "make", [BinaryF1Score, lambda: torchmetrics.MetricCollection({"metric": BinaryF1Score()})]
)
def test_outputs(make, output):
    """Tuples, lists, both kinds of mappings and lists of samples are accepted."""
    engine = Engine(lambda engine, batch: output)
    TorchMetric(make(), metrics_result_mode="flatten").attach(
        engine, "metric" if make is BinaryF1Score else "all"
    )
    assert engine.run([0]).metrics == {"metric": pytest.approx(by_hand(BinaryF1Score()).item())}


def test_single_arguments_text_and_transforms():
    """Single arguments, strings and keyword arguments are passed to the metric."""
    assert engine_with(TorchMetric(torchmetrics.MeanMetric())).run(
        [1.0, torch.tensor([2.0, 6.0])]
    ).metrics == {"metric": 3.0}
    words = TorchMetric(torchmetrics.text.WordErrorRate(), output_transform=lambda out: (out[0], out[1]))
    assert engine_with(words).run([(["a b"], ["a c"], 1)]).metrics == {"metric": 0.5}
    weighted = TorchMetric(
        torchmetrics.MeanMetric(), output_transform=lambda out: {"value": out[0], "weight": out[1]}
    )
    assert engine_with(weighted).run([(1.0, 3.0), (5.0, 1.0)]).metrics == {"metric": 2.0}


def test_without_data():
    """Without data compute() raises, and an engine gives a single warning (M-010)."""
    metric = TorchMetric(BinaryAccuracy())
    with pytest.raises(NotComputableError, match=r"TorchMetric\(BinaryAccuracy\) has received no updates"):
        metric.compute()
    engine = Engine(lambda engine, batch: ([], []))
    metric.attach(engine, "accuracy")
    with pytest.warns(GlowplugWarning, match="'accuracy' .* no value") as caught:
        assert engine.run([0]).metrics == {}
    assert len(caught) == 1


def test_invalid_metrics():
    """Classes, functions and glowplug metrics are refused with a remedy."""
    for wrong in (BinaryAccuracy, Total(), print):
        with pytest.raises(
            TypeError,
            match=r"metric must be a torchmetrics\.Metric or torchmetrics\.MetricCollection, got",
        ):
            TorchMetric(wrong)


def as_is(output):
    """Return predictions and labels."""
    return output


def as_scores(output):
    """Return predictions for two classes, and labels."""
    return torch.stack([1 - output[0], output[0]], 1), output[1]


def as_numbers(output):
    """Return predictions and targets as columns of numbers."""
    return output[0][:, None], output[1][:, None].float()


MADE_OF = {
    "counts": (BinaryF1Score, as_is),
    "kept examples": (BinaryAUROC, as_is),
    "collection": (collection, as_is),
    "composition": (lambda: BinaryPrecision() * 2 + BinaryRecall(), as_is),
    "classwise": (
        lambda: torchmetrics.wrappers.ClasswiseWrapper(MulticlassAccuracy(2, average=None)),
        as_scores,
    ),
    "columns": (
        lambda: torchmetrics.wrappers.MultioutputWrapper(torchmetrics.MeanSquaredError(), 1),
        as_numbers,
    ),
    # Its metrics share states, which each update replaces.
    "shared": (
        lambda: torchmetrics.MetricCollection(
            [torchmetrics.PearsonCorrCoef(1), torchmetrics.ConcordanceCorrCoef(1)]
        ),
        as_numbers,
    ),
}


@pytest.mark.parametrize("name", MADE_OF)
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_resumes_in_mid_epoch(name, stop):
    """A run stopped at any iteration, saved and resumed has the values of an uninterrupted run (C4)."""

    def make():
        metric, transformed = MADE_OF[name]
        return engine_with(TorchMetric(metric(), transformed))

    engine, states = make(), []
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda e: states.append(e.state_dict()))
    expected = engine.run(BATCHES, max_epochs=2).metrics
    file = io.BytesIO()
    torch.save(states[0], file)
    file.seek(0)
    fresh = make()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(fresh.run(BATCHES, max_epochs=2).metrics, expected)


def test_updates_do_not_change_a_saved_state():
    """Neither the saved nor the loaded metric shares memory with the state (M-070)."""
    metric, fresh = TorchMetric(collection()), TorchMetric(collection())
    metric.update(BATCHES[0])
    metric.update(BATCHES[1])
    state, half = metric.state_dict(), metric.compute()
    fresh.update(BATCHES[2])
    fresh.load_state_dict(state)
    metric.update(BATCHES[2])
    fresh.update(BATCHES[2])
    again = TorchMetric(collection())
    again.load_state_dict(state)
    assert fresh.compute() == metric.compute() == by_hand_numbers(collection())
    assert again.compute() == half
    again.update(BATCHES[2])
    assert again.compute() == metric.compute()
    for other in (BinaryAccuracy(), BinaryAUROC(thresholds=5)):
        with pytest.raises(
            ValueError,
            match=rf"cannot load the states {{'auroc'.* into {type(other).__name__}, which has the states ",
        ):
            TorchMetric(other).load_state_dict(state)


def by_hand_numbers(metric):
    """Return the values of torchmetrics for all data as Python numbers."""
    return {name: value.item() for name, value in by_hand(metric).items()}


@pytest.mark.parametrize("make", [BinaryAUROC, collection])
def test_pickled_and_copied(make):
    """A copy has the data, is independent, and is attached to no engine (M-012)."""
    metric = TorchMetric(make())
    engine_with(metric).run(BATCHES[:2])
    expected = metric.compute()
    for other in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        assert other.compute() == expected
        assert engine_with(other).run(BATCHES).metrics != {"metric": expected}
    assert metric.compute() == expected


def test_metric_keeps_no_graph_value_or_output():
    """Metrics that store examples keep no gradients, and nothing after a reset."""

    class Mark:
        def __call__(self, gradient):
            pass

    weight, graphs = torch.ones(2, requires_grad=True), []

    def step(engine, batch):
        preds = (weight * batch[0]).sigmoid()
        preds.register_hook(mark := Mark())  # kept alive by the graph
        graphs.append(weakref.ref(mark))
        return preds, batch[1]

    engine = Engine(step)
    metric = TorchMetric(BinaryAUROC())
    metric.attach(engine, "auroc")
    engine.run(BATCHES[:2])
    engine.state.output = None
    gc.collect()
    assert [graph() for graph in graphs] == [None, None]
    assert not any(kept.requires_grad for kept in metric.metric.preds)
    assert metric.metric._forward_cache is None
    assert metric.metric._computed is None
    kept = weakref.ref(metric.metric.preds[0])
    metric.reset()
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("make", [lambda: MulticlassF1Score(3, validate_args=False), lambda: collection()])
def test_follows_the_data_to_its_device(make):
    """States move to the device of the data ("meta" replaces an accelerator) unless a device is set."""
    metric, stays = (
        TorchMetric(make()),
        TorchMetric(torchmetrics.SumMetric(), device="meta"),
    )
    assert (metric.device, stays.device) == (torch.device("cpu"), torch.device("meta"))
    metric._follow([{"nested": torch.zeros(2, device="meta")}])
    assert metric.device == torch.device("meta")
    parts = [part for part in metric.metric.modules() if isinstance(part, torchmetrics.Metric)]
    assert {part.device.type for part in parts} == {"meta"}
    stays._follow(torch.zeros(2))
    assert stays.device == torch.device("meta")


def test_dist_sync_fn_is_kept():
    """A metric with a dist_sync_fn keeps it."""
    own = torchmetrics.SumMetric(dist_sync_fn=torchmetrics.utilities.distributed.gather_all_tensors)
    assert TorchMetric(own).metric.dist_sync_fn is torchmetrics.utilities.distributed.gather_all_tensors
    assert TorchMetric(torchmetrics.SumMetric()).metric.dist_sync_fn is gather


def test_two_ranks(run_ranks):
    """Two ranks with uneven or missing data return exact values without a hang (D2, M-092)."""

    def check(rank):
        import warnings

        import torch
        import torchmetrics
        from torchmetrics.classification import BinaryAUROC, BinaryF1Score, MulticlassAUROC

        from glowplug import Engine
        from glowplug.exceptions import NotComputableError
        from glowplug_torchmetrics import TorchMetric

        warnings.simplefilter("error")
        preds = torch.tensor([0.9, 0.8, 0.3, 0.6, 0.1, 0.7])
        target = torch.tensor([1, 0, 1, 1, 0, 1])
        own = slice(0, 5) if rank == 0 else slice(5, 6)
        engine = Engine(lambda engine, batch: batch)
        parts = {"f1": BinaryF1Score(), "auroc": BinaryAUROC(), "positives": torchmetrics.SumMetric()}
        for name in ("f1", "auroc"):
            TorchMetric(parts[name]).attach(engine, name)
        total = TorchMetric(parts["positives"], output_transform=lambda out: out[1])
        total.attach(engine, "positives")
        TorchMetric(torchmetrics.MetricCollection({"a": BinaryF1Score(), "b": BinaryAUROC()})).attach(
            engine, "all"
        )
        batches = [(preds[own][:3], target[own][:3]), (preds[own][3:], target[own][3:])]
        first = engine.run(batches if rank == 0 else batches[:1], max_epochs=2).metrics

        curve = TorchMetric(MulticlassAUROC(3))  # stores scores (N, 3) and labels of another type
        scores = torch.eye(3).repeat(2, 1)
        if rank == 1:
            curve.update((scores, torch.tensor([0, 1, 2, 0, 1, 1])))
        alone = curve.compute()
        mean = TorchMetric(torchmetrics.MeanMetric())
        mean.update(float(rank))
        values = [float(mean.compute())]
        if rank == 0:
            mean.update(7.0)
        values.append(float(mean.compute()))
        mean.reset()
        try:
            mean.compute()
        except NotComputableError as error:
            values.append(str(error))
        return {"first": first, "alone": float(alone), "mean": values, "own": float(total.metric.sum_value)}

    preds, target = torch.cat([PREDS, torch.tensor([0.7])]), torch.cat([TARGET, torch.tensor([1])])
    f1, auroc = BinaryF1Score()(preds, target).item(), BinaryAUROC()(preds, target).item()
    curve = torchmetrics.classification.MulticlassAUROC(3)
    alone = curve(torch.eye(3).repeat(2, 1), torch.tensor([0, 1, 2, 0, 1, 1])).item()
    for rank, result in enumerate(run_ranks(check)):
        both = {"a": pytest.approx(f1), "b": pytest.approx(auroc)}
        expected = {
            "f1": pytest.approx(f1),
            "auroc": pytest.approx(auroc),
            "positives": 4.0,
            **both,
            "all": both,
        }
        assert result["first"] == expected
        assert result["alone"] == pytest.approx(alone)
        assert result["mean"] == [
            0.5,
            pytest.approx(8 / 3),
            "TorchMetric(MeanMetric) has received no updates since its last reset",
        ]
        # The local sum is kept for later updates and was reduced once.
        assert result["own"] == [3.0, 1.0][rank]
