"""Fbeta, F1, and their formulas as arithmetic on metrics."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.metrics import fbeta_score

from glowplug import Engine, MetricsLambda
from glowplug_metrics import F1, Accuracy, Fbeta, Precision, Recall

BINARY = torch.tensor([1, 0, 1, 1]), torch.tensor([1, 1, 0, 1])


def run(metrics, data):
    """Return the metrics that an engine publishes."""
    engine = Engine(lambda engine, batch: batch)
    for name, metric in metrics.items():
        metric.attach(engine, name)
    return engine.run(data).metrics


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(2, 5),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(0, 10**6),
)
def test_multiclass_equals_scikit_learn(sizes, classes, beta, seed):
    """F-scores of each class and their mean equal scikit-learn's (M-086)."""
    random = torch.Generator().manual_seed(seed)
    batches = [
        (torch.randn(n, classes, generator=random), torch.randint(classes, (n,), generator=random))
        for n in sizes
    ]
    target = torch.cat([y for _, y in batches]).numpy()
    predicted = torch.cat([x.argmax(1) for x, _ in batches]).numpy()
    metrics = {"each": Fbeta(beta, average=False), "mean": Fbeta(beta)}
    published = run(metrics, batches)
    for name, average in (("each", None), ("mean", "macro")):
        right = fbeta_score(
            target, predicted, beta=beta, average=average, labels=range(classes), zero_division=0
        )
        np.testing.assert_allclose(published[name], right, rtol=1e-12)


def test_binary():
    """Binary data gives the score of class 1, or of both classes (M-086)."""
    assert run({"f1": Fbeta(1.0)}, [BINARY])["f1"] == pytest.approx(2 / 3)
    both = Fbeta(1.0, False, Precision(average=None), Recall(average=None))
    assert run({"f1": both}, [BINARY])["f1"].tolist() == pytest.approx([0.0, 2 / 3])


def test_existing_metrics_are_used():
    """An existing precision and recall are used with their output_transform (M-086)."""
    precision, recall = (kind(lambda output: output["pair"]) for kind in (Precision, Recall))
    score = Fbeta(2.0, precision=precision, recall=recall)
    assert score.leaves == [precision, recall]
    published = run({"f2": score, "precision": precision}, [{"pair": BINARY}])
    assert published == {"f2": pytest.approx(2 / 3), "precision": pytest.approx(2 / 3)}


def test_f1_equals_fbeta_1():
    """F1 equals Fbeta with beta=1 and can be pickled (F1)."""
    assert isinstance(F1(), Fbeta)
    assert isinstance(F1(), MetricsLambda)
    scores, labels = torch.eye(3)[torch.tensor([0, 1, 1, 2])], torch.tensor([0, 1, 2, 2])
    published = run({"f1": F1(average=False), "fbeta": Fbeta(1, average=False)}, [(scores, labels)])
    assert published["f1"].tolist() == published["fbeta"].tolist() == pytest.approx([1.0, 2 / 3, 2 / 3])
    unpickled = pickle.loads(pickle.dumps(F1()))
    unpickled.update((scores, labels))
    assert unpickled.compute() == pytest.approx(7 / 9)


@pytest.mark.parametrize("beta", [0, -1.0, math.inf, math.nan])
def test_beta_is_above_0(beta):
    """``beta`` must be above 0 (M-086)."""
    with pytest.raises(ValueError, match="beta must be a finite number above 0"):
        Fbeta(beta)


def test_invalid_arguments():
    """Averages, other metrics and unused arguments are refused (M-086)."""
    with pytest.raises(ValueError, match=r"precision must have average=False.*average='micro'"):
        Fbeta(1.0, precision=Precision(average="micro"))
    with pytest.raises(ValueError, match=r"recall must have average=False.*average=True"):
        Fbeta(1.0, recall=Recall(average=True))
    with pytest.raises(TypeError, match="recall must be a Recall, got"):
        Fbeta(1.0, recall=Accuracy())
    for name, value in (("output_transform", lambda output: output), ("device", "cpu")):
        with pytest.raises(ValueError, match=f"{name} cannot be combined with precision or recall"):
            Fbeta(1.0, precision=Precision(), **{name: value})


def test_by_arithmetic():
    """The formulas of ignite's tutorials give the F1 score, with and without absent classes (M-040, M-043, F1)."""
    scores, labels = torch.eye(3)[torch.tensor([0, 1, 1, 2])], torch.tensor([0, 1, 2, 2])
    precision, recall = Precision(average=False), Recall(average=False)
    formulas = {
        "mean": (precision * recall * 2 / (precision + recall)).mean(),
        "item": (precision * recall * 2 / (precision + recall + 1e-20)).mean().item(),
        "index": (2 * precision * recall / (precision + recall))[1],
        "lambda": MetricsLambda(lambda p, r: torch.mean(2 * p * r / (p + r)).item(), precision, recall),
        "F1": F1(precision=precision, recall=recall),
    }
    published = run(formulas, [(scores, labels)])
    assert published.pop("index") == pytest.approx(2 / 3)
    assert list(published.values()) == pytest.approx([7 / 9] * 4)


def test_division_of_and_by_a_binary_precision():
    """An integer divided by a precision is a number (M-041)."""
    precision = Precision()
    assert run({"inverse": 2 / precision, "half": precision / 2}, [BINARY]) == pytest.approx(
        {"inverse": 3.0, "half": 1 / 3}
    )
