"""ConfusionMatrix, its scores and table, and MultiLabelConfusionMatrix."""

import copy
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn import metrics as sklearn_metrics

from glowplug import Engine, Metric
from glowplug.exceptions import NotComputableError
from glowplug_metrics import (
    Accuracy,
    ConfusionMatrix,
    ConfusionTable,
    DiceCoefficient,
    IoU,
    JaccardIndex,
    MultiLabelConfusionMatrix,
    cmAccuracy,
    cmPrecision,
    cmRecall,
    mIoU,
)

bounded = settings(max_examples=25, deadline=None)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)
SEEDS = st.integers(0, 10**6)
# Actual classes in rows; class 2 neither occurs nor is predicted.
COUNTS = torch.tensor([[5, 2, 0], [1, 7, 0], [0, 0, 0]])


def data_of(counts):
    """Return a batch that has this confusion matrix."""
    pairs = [
        (actual, predicted)
        for actual, row in enumerate(counts.tolist())
        for predicted, n in enumerate(row)
        for _ in range(n)
    ]
    actual, predicted = torch.tensor(pairs).T
    return torch.eye(len(counts))[predicted], actual


def of_counts(make, counts=COUNTS, **arguments):
    """Return the value of a metric that uses a confusion matrix."""
    metric = make(ConfusionMatrix(len(counts)), **arguments)
    metric.update(data_of(counts))
    return metric.compute()


@bounded
@given(SIZES, st.sampled_from([2, 5, 70]), st.sampled_from([(), (3,), (2, 2)]), st.booleans(), SEEDS)
def test_equals_scikit_learn(sizes, classes, extra, has_ignored, seed):
    """The matrix equals scikit-learn's for few and many classes, with ignored targets (M-087)."""
    random = torch.Generator().manual_seed(seed)
    low, high = (-1, classes + 1) if has_ignored else (0, classes)
    batches = [
        (
            torch.randn(n, classes, *extra, generator=random),
            torch.randint(low, high, (n, *extra), generator=random),
        )
        for n in sizes
    ]
    metric = ConfusionMatrix(classes)
    for batch in batches:
        metric.update(batch)
    predicted = torch.cat([x.argmax(1).flatten() for x, _ in batches])
    target = torch.cat([y.flatten() for _, y in batches])
    kept = (target >= 0) & (target < classes)
    right = np.zeros((classes, classes))
    if kept.any():
        right = sklearn_metrics.confusion_matrix(target[kept], predicted[kept], labels=range(classes))
    assert metric.compute().dtype == torch.int64
    np.testing.assert_array_equal(metric.compute(), right)


@pytest.mark.parametrize(
    ("average", "normalize"), [("recall", "true"), ("precision", "pred"), ("samples", "all")]
)
def test_averages_equal_scikit_learn(average, normalize):
    """Normalized matrices equal scikit-learn's and can be updated further (M-087)."""
    metric, (y_pred, y) = ConfusionMatrix(3, average=average), data_of(COUNTS)
    for _ in range(3):
        metric.update((y_pred, y))
        right = sklearn_metrics.confusion_matrix(y, y_pred.argmax(1), labels=range(3), normalize=normalize)
        np.testing.assert_allclose(metric.compute(), right, rtol=1e-12)
    assert metric.confusion_matrix.dtype == torch.int64
    assert torch.equal(metric.confusion_matrix, 3 * COUNTS)


def test_samples_are_examples():
    """average='samples' divides by the number of images, not of pixels (M-087)."""
    metric = ConfusionMatrix(2, average="samples")
    metric.update((torch.zeros(2, 2, 3, 3), torch.zeros(2, 3, 3).long()))
    assert metric.compute().tolist() == [[9.0, 0.0], [0.0, 0.0]]


def test_normalize():
    """normalize() divides rows or columns; zero rows and columns stay 0 (M-087)."""
    assert ConfusionMatrix.normalize(COUNTS, "recall").tolist() == [
        [5 / 7, 2 / 7, 0],
        [1 / 8, 7 / 8, 0],
        [0, 0, 0],
    ]
    assert ConfusionMatrix.normalize(COUNTS, "precision").tolist() == [
        [5 / 6, 2 / 9, 0],
        [1 / 6, 7 / 9, 0],
        [0, 0, 0],
    ]
    with pytest.raises(
        ValueError, match=r"average must be 'recall' \(rows\) or 'precision' \(columns\), got 'samples'"
    ):
        ConfusionMatrix.normalize(COUNTS, "samples")


@pytest.mark.parametrize("arguments", [(1,), (0,), (3, "macro"), (3, True)])
def test_invalid_arguments(arguments):
    """Less than two classes and unknown averages are refused (M-087)."""
    with pytest.raises(
        ValueError, match=r"num_classes must be at least 2|'samples', 'recall' or 'precision'"
    ):
        ConfusionMatrix(*arguments)


@pytest.mark.parametrize(
    ("y_pred", "y"),
    [((4,), (4,)), ((4, 2), (4,)), ((4, 3), (4, 3)), ((4, 3), (5,)), ((4, 3, 2), (4, 3)), ((4, 1), (4,))],
)
def test_mismatched_shapes(y_pred, y):
    """Predicted labels, another number of classes and mismatched shapes are refused (M-087)."""
    with pytest.raises(ValueError, match=r"\(N, (C|3), ...\)") as caught:
        ConfusionMatrix(3).update((torch.zeros(y_pred), torch.zeros(y).long()))
    assert str(y_pred) in str(caught.value)


def test_lists_of_samples():
    """Lists of samples need skip_unrolling=False, which the error names (M-087)."""
    samples = [torch.tensor([0.1, 0.9]), torch.tensor([0.8, 0.2])], [1, 1]
    engine = Engine(lambda engine, batch: batch)
    handle = ConfusionMatrix(2).attach(engine, "cm")
    with pytest.raises(TypeError, match=r"got list and list.*skip_unrolling=False"):
        engine.run([samples])
    handle.remove()
    ConfusionMatrix(2, skip_unrolling=False).attach(engine, "cm")
    assert engine.run([samples]).metrics["cm"].tolist() == [[0, 0], [1, 1]]


def test_updates_do_not_change_published_values():
    """Later updates do not change the result of compute() (M-087)."""
    metric = ConfusionMatrix(3)
    metric.update(data_of(COUNTS))
    before = metric.compute()
    metric.update(data_of(COUNTS))
    assert torch.equal(before, COUNTS)


def test_without_examples():
    """A matrix without examples raises; with ignored targets only, it is zero (M-010)."""
    for metric in (ConfusionMatrix(3), MultiLabelConfusionMatrix(3)):
        with pytest.raises(NotComputableError, match="has received no examples"):
            metric.compute()
    metric = ConfusionMatrix(3)
    metric.update((torch.eye(3), torch.full((3,), 255)))
    assert not metric.compute().any()


@pytest.mark.parametrize("classes", [3, 70])
def test_state_and_pickle(classes):
    """A matrix continues from its saved state and as a copy (M-012, M-070)."""
    metric, fresh = ConfusionMatrix(classes), ConfusionMatrix(classes)
    batch = torch.eye(classes), torch.arange(classes)
    metric.update(batch)
    fresh.load_state_dict(metric.state_dict())
    for other in (fresh, copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        other.update(batch)
        assert torch.equal(other.compute(), 2 * torch.eye(classes).long())
    assert torch.equal(metric.compute(), torch.eye(classes).long())


def test_scores_of_a_known_matrix():
    """Scores and their means of a known matrix; an absent class has 0 (M-087)."""
    assert of_counts(IoU).tolist() == pytest.approx([5 / 8, 7 / 10, 0])
    assert of_counts(JaccardIndex).tolist() == pytest.approx([5 / 8, 7 / 10, 0])
    assert of_counts(mIoU).item() == pytest.approx((5 / 8 + 7 / 10) / 3)
    assert of_counts(DiceCoefficient).tolist() == pytest.approx([10 / 13, 14 / 17, 0])
    assert of_counts(cmAccuracy).item() == pytest.approx(12 / 15)
    assert of_counts(cmPrecision, average=False).tolist() == pytest.approx([5 / 6, 7 / 9, 0])
    assert of_counts(cmPrecision).item() == pytest.approx((5 / 6 + 7 / 9) / 3)
    assert of_counts(cmRecall, average=False).tolist() == pytest.approx([5 / 7, 7 / 8, 0])
    assert of_counts(cmRecall).item() == pytest.approx((5 / 7 + 7 / 8) / 3)


@bounded
@given(st.integers(2, 5), SEEDS)
def test_scores_equal_scikit_learn(classes, seed):
    """IoU, Dice, precision, recall and accuracy equal scikit-learn's (M-087)."""
    counts = torch.randint(4, (classes, classes), generator=torch.Generator().manual_seed(seed))
    counts[0, 0] += 1
    scores, target = data_of(counts)
    predicted, labels = scores.argmax(1), range(classes)
    arguments = {"labels": labels, "average": None, "zero_division": 0}
    for make, reference in (
        (IoU, sklearn_metrics.jaccard_score),
        (DiceCoefficient, sklearn_metrics.f1_score),
        (lambda cm: cmPrecision(cm, average=False), sklearn_metrics.precision_score),
        (lambda cm: cmRecall(cm, average=False), sklearn_metrics.recall_score),
    ):
        np.testing.assert_allclose(
            of_counts(make, counts), reference(target, predicted, **arguments), rtol=1e-12
        )
    assert of_counts(cmAccuracy, counts).item() == pytest.approx(
        sklearn_metrics.accuracy_score(target, predicted)
    )


def test_ignore_index_omits_a_class():
    """ignore_index omits a class from the values and their mean (M-087)."""
    assert of_counts(IoU, ignore_index=0).tolist() == pytest.approx([7 / 10, 0])
    assert of_counts(mIoU, ignore_index=2).item() == pytest.approx((5 / 8 + 7 / 10) / 2)
    assert of_counts(DiceCoefficient, ignore_index=1).tolist() == pytest.approx([10 / 13, 0])
    for make in (IoU, mIoU, JaccardIndex, DiceCoefficient):
        for ignore_index in (3, -1, "0"):
            with pytest.raises(ValueError, match=f"a class from 0 to 2, got {ignore_index!r}"):
                make(ConfusionMatrix(3), ignore_index=ignore_index)


@pytest.mark.parametrize(
    "make", [IoU, mIoU, JaccardIndex, DiceCoefficient, cmAccuracy, cmPrecision, cmRecall]
)
def test_scores_need_counts(make):
    """Scores refuse other objects and normalized matrices (M-087)."""
    with pytest.raises(TypeError, match="cm must be a ConfusionMatrix, got 3"):
        make(3)
    with pytest.raises(TypeError, match="cm must be a ConfusionMatrix"):
        make(Accuracy())
    with pytest.raises(ValueError, match="average=None or average='samples', got average='recall'"):
        make(ConfusionMatrix(3, average="recall"))
    assert isinstance(make(ConfusionMatrix(3, average="samples")), Metric)


def test_scores_share_one_matrix():
    """Several scores of one attached matrix count each batch once (M-043, M-087)."""
    cm, engine = ConfusionMatrix(3), Engine(lambda engine, batch: batch)
    formulas = {
        "cm": cm,
        "iou": IoU(cm),
        "miou": mIoU(cm),
        "by hand": cm.diag() / (cm.sum(dim=1) + cm.sum(dim=0) - cm.diag() + 1e-15),
        "accuracy": cm.diag().sum() / (cm.sum() + 1e-15),
        "first": IoU(cm)[0],
    }
    for name, metric in formulas.items():
        metric.attach(engine, name)
    published = engine.run([data_of(COUNTS)] * 2).metrics
    assert torch.equal(published["cm"], 2 * COUNTS)
    assert published["iou"].tolist() == pytest.approx([5 / 8, 7 / 10, 0])
    assert published["by hand"].tolist() == pytest.approx([5 / 8, 7 / 10, 0])
    assert published["miou"] == pytest.approx((5 / 8 + 7 / 10) / 3)
    assert published["accuracy"] == pytest.approx(0.8)
    assert published["first"] == pytest.approx(5 / 8)


# The table


def test_table_rows():
    """Table rows contain class names, scores and support, then the mean."""
    cm = ConfusionMatrix(3, average="recall")
    cm.update(data_of(COUNTS))
    table = cm.table(["cat", "dog", "owl"])
    cat, dog, owl = table.per_class()
    assert cat == {
        "class": "cat",
        "precision": pytest.approx(5 / 6),
        "recall": pytest.approx(5 / 7),
        "f1": pytest.approx(10 / 13),
        "iou": pytest.approx(5 / 8),
        "accuracy": pytest.approx(12 / 15),
        "support": 7,
    }
    assert (dog["class"], dog["support"], owl["f1"], owl["accuracy"]) == ("dog", 8, 0.0, 1.0)
    assert table.mean()["f1"] == pytest.approx((10 / 13 + 14 / 17) / 3)
    assert table.mean()["support"] == 15


def test_table_as_text():
    """str() of a table shows two aligned tables; classes without names are numbers."""
    lines = str(ConfusionTable(torch.tensor([[50, 2], [1, 7]]), ["cat", "guinea pig"])).splitlines()
    assert lines[:3] == [
        "actual \\ predicted  cat  guinea pig",
        "cat                  50           2",
        "guinea pig            1           7",
    ]
    assert [line.split()[0] for line in lines[4:]] == ["class", "cat", "guinea", "mean"]
    assert len({len(line) for line in lines[4:]}) == 1
    assert str(ConfusionTable(COUNTS)).splitlines()[1].startswith("0 ")


def test_table_as_data_frames():
    """DataFrames of a table have the class names."""
    table = ConfusionTable(COUNTS, ["cat", "dog", "owl"])
    frame, matrix = table.to_pandas(), table.matrix_to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.index) == ["cat", "dog", "owl", "mean"]
    assert list(frame.columns) == ["precision", "recall", "f1", "iou", "accuracy", "support"]
    assert frame.loc["dog", "recall"] == pytest.approx(7 / 8)
    assert frame.loc["mean", "support"] == 15
    assert matrix.loc["cat", "dog"] == 2
    assert (matrix.index.name, matrix.columns.name) == ("actual", "predicted")


def test_table_without_pandas(monkeypatch):
    """Without pandas the error names the package and the alternatives."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = ConfusionTable(COUNTS)
    for method in (table.to_pandas, table.matrix_to_pandas):
        with pytest.raises(ImportError, match=r"pip install 'glowplug-metrics\[pandas\]'.*per_class\(\)"):
            method()
    assert len(table.per_class()) == 3
    assert str(table)


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "b"]])
def test_table_invalid_names(names):
    """Class names must be unique and one per class."""
    with pytest.raises(ValueError, match="must be 3 unique names, one per class"):
        ConfusionTable(COUNTS, names)


@pytest.mark.parametrize("matrix", [COUNTS.double(), COUNTS[:2], COUNTS[0]])
def test_table_needs_counts(matrix):
    """A table refuses floats and matrices that are not square."""
    with pytest.raises(ValueError, match=r"must be integer counts of shape \(C, C\)"):
        ConfusionTable(matrix)


# Multilabel


@bounded
@given(SIZES, st.integers(2, 4), st.sampled_from([(), (3,), (2, 2)]), SEEDS)
def test_multilabel_equals_scikit_learn(sizes, labels, extra, seed):
    """The matrices of labels equal scikit-learn's, as counts and normalized (M-087)."""
    random = torch.Generator().manual_seed(seed)
    batches = [tuple(torch.randint(2, (n, labels, *extra), generator=random) for _ in "py") for n in sizes]
    predicted, target = (
        torch.cat([b[i].movedim(1, -1).flatten(0, -2) for b in batches]).numpy() for i in (0, 1)
    )
    right = sklearn_metrics.multilabel_confusion_matrix(target, predicted)
    counts, shares = MultiLabelConfusionMatrix(labels), MultiLabelConfusionMatrix(labels, normalized=True)
    for metric in (counts, shares):
        for batch in batches:
            metric.update(batch)
    assert counts.compute().dtype == torch.int64
    np.testing.assert_array_equal(counts.compute(), right)
    np.testing.assert_allclose(shares.compute(), right / len(target), rtol=1e-12)


def test_multilabel_errors():
    """Invalid shapes, numbers of classes and values are refused (M-087)."""
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        MultiLabelConfusionMatrix(1)
    metric = MultiLabelConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"must both have the shape \(N, C, ...\)"):
        metric.update((torch.ones(3).int(), torch.ones(3).int()))
    with pytest.raises(ValueError, match="num_classes=3, but the data has 2 labels"):
        metric.update((torch.ones(4, 2).int(), torch.ones(4, 2).int()))
    with pytest.raises(ValueError, match=r"must be 0 or 1, but y_pred contains \[2"):
        metric.update((torch.full((4, 3), 2), torch.ones(4, 3).int()))


def test_multilabel_state():
    """The metric continues from its saved state (M-070)."""
    metric, fresh = MultiLabelConfusionMatrix(2), MultiLabelConfusionMatrix(2)
    batch = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])
    metric.update(batch)
    fresh.load_state_dict(metric.state_dict())
    fresh.update(batch)
    assert fresh.compute().tolist() == [[[0, 2], [0, 2]], [[2, 0], [0, 2]]]
