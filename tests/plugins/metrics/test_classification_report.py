"""ClassificationReport and TopKCategoricalAccuracy, compared with scikit-learn."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn import metrics as sklearn_metrics

from glowplug import Engine
from glowplug.exceptions import NotComputableError
from glowplug_metrics import ClassificationReport, TopKCategoricalAccuracy

bounded = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10**6)
DATA = torch.eye(3)[torch.tensor([0, 1, 1, 2])], torch.tensor([0, 1, 2, 2])


def reported(metric, *batches):
    """Return the report of these batches."""
    for batch in batches:
        metric.update(batch)
    return metric.compute()


@bounded
@given(st.integers(2, 5), st.booleans(), SEEDS)
def test_report_equals_scikit_learn(classes, is_multilabel, seed):
    """The scores of each class and their means equal those of scikit-learn (M-088)."""
    random = torch.Generator().manual_seed(seed)
    target = (
        torch.randint(2, (9, classes), generator=random)
        if is_multilabel
        else torch.randint(classes, (9,), generator=random)
    )
    scores = torch.randn(9, classes, generator=random)
    predicted = (scores > 0).int() if is_multilabel else scores.argmax(1)
    right = sklearn_metrics.classification_report(
        target.numpy(), predicted.numpy(), labels=range(classes), output_dict=True, zero_division=0
    )
    metric = ClassificationReport(output_dict=True, is_multilabel=is_multilabel)
    report = reported(metric, (predicted if is_multilabel else scores, target))
    assert list(report) == [*map(str, range(classes)), "macro avg"]
    for name, figures in report.items():
        for figure, value in figures.items():
            assert value == pytest.approx(right[name][figure], rel=1e-12)


def test_report_options():
    """A report supports labels, beta, JSON and dict (M-088)."""
    report = reported(ClassificationReport(beta=2, output_dict=True, labels=["a", "b", "c"]), DATA)
    assert report["b"] == {"precision": 0.5, "recall": 1.0, "f2-score": pytest.approx(5 / 6)}
    assert report["macro avg"]["recall"] == pytest.approx(5 / 6)
    text = reported(ClassificationReport(beta=2, labels=["a", "b", "c"]), DATA)
    assert json.loads(text) == report
    assert list(reported(ClassificationReport(beta=0.5, output_dict=True), DATA)["0"])[2] == "f0.5-score"
    assert (
        json.loads(reported(pickle.loads(pickle.dumps(ClassificationReport())), DATA))["0"]["recall"] == 1.0
    )


def test_report_of_binary_data():
    """A report of binary data contains both classes (M-088)."""
    report = reported(
        ClassificationReport(output_dict=True, labels=["no", "yes"]),
        (torch.tensor([1, 0, 1, 1]), torch.tensor([1, 1, 0, 1])),
    )
    assert report["yes"]["precision"] == pytest.approx(2 / 3)
    assert report["no"] == {"precision": 0.0, "recall": 0.0, "f1-score": 0.0}


@pytest.mark.parametrize(
    ("mode", "names"), [("both", {"0", "1", "2", "macro avg", "report"}), ("named", {"report"})]
)
def test_report_is_published_by_mode(mode, names):
    """metrics_result_mode controls how a dict is published (M-007, M-088)."""
    engine = Engine(lambda engine, batch: batch)
    ClassificationReport(output_dict=True, metrics_result_mode=mode).attach(engine, "report")
    assert set(engine.run([DATA]).metrics) == names


@pytest.mark.parametrize(
    "labels", [["a", "b"], ["a", "b", "c", "d"], ["a", "b", "b"], ["a", "b", "macro avg"]]
)
def test_invalid_labels(labels):
    """Labels must be unique and one per class (M-088)."""
    with pytest.raises(ValueError, match=r"must be 3 unique names, one per class"):
        reported(ClassificationReport(labels=labels), DATA)


def test_report_errors():
    """An invalid beta and missing data raise errors (M-088)."""
    with pytest.raises(ValueError, match="must be a finite number above 0, got -1"):
        ClassificationReport(beta=-1)
    with pytest.raises(NotComputableError, match="Precision has received no examples"):
        ClassificationReport().compute()


@bounded
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(2, 6), st.data(), SEEDS)
def test_top_k_equals_scikit_learn(sizes, classes, data, seed):
    """Top-k accuracy equals scikit-learn's for every k and batches of any size (M-088)."""
    k = data.draw(st.integers(1, classes))
    random = torch.Generator().manual_seed(seed)
    batches = [
        (torch.randn(n, classes, generator=random), torch.randint(classes, (n,), generator=random))
        for n in sizes
    ]
    metric = TopKCategoricalAccuracy(k)
    for batch in batches:
        metric.update(batch)
    scores, target = (np.concatenate([b[i].numpy() for b in batches]) for i in (0, 1))
    among = (np.argsort(-scores, axis=1)[:, :k] == target[:, None]).any(axis=1)
    assert metric.compute() == among.mean()
    if classes > 2 and k < classes:
        right = sklearn_metrics.top_k_accuracy_score(target, scores, k=k, labels=range(classes))
        assert metric.compute() == pytest.approx(right)


def test_top_k_of_pixels():
    """Pixels count as examples, and a target outside the classes is never among the top k (M-088)."""
    metric = TopKCategoricalAccuracy(k=2)
    scores = torch.tensor([[[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]])
    metric.update((scores, torch.tensor([[1, 0]])))
    assert metric.compute() == 0.5
    metric.update((scores, torch.tensor([[255, 2]])))
    assert metric.compute() == 0.5


def test_top_k_errors():
    """Invalid k and shapes are refused, and missing data raises NotComputableError (M-088)."""
    with pytest.raises(ValueError, match="at least 1, got 0"):
        TopKCategoricalAccuracy(0)
    with pytest.raises(NotComputableError, match="TopKCategoricalAccuracy has received no examples"):
        TopKCategoricalAccuracy().compute()
    with pytest.raises(ValueError, match="at least k=5 classes, got 3"):
        TopKCategoricalAccuracy().update(DATA)
    with pytest.raises(ValueError, match=r"and \(N, ...\), got \(4, 3\) and \(3,\)"):
        TopKCategoricalAccuracy(1).update((DATA[0], DATA[1][:3]))


def test_top_k_state():
    """The metric continues from its saved state (M-070)."""
    metric, fresh = TopKCategoricalAccuracy(1), TopKCategoricalAccuracy(1)
    metric.update(DATA)
    fresh.load_state_dict(metric.state_dict())
    fresh.update(DATA)
    assert fresh.compute() == 0.75
