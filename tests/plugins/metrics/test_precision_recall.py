"""Precision and Recall, compared with scikit-learn."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn import metrics as sklearn_metrics

from glowplug import Engine
from glowplug.exceptions import NotComputableError
from glowplug_metrics import Precision, Recall
from glowplug_metrics.batch import FEW_CLASSES

bounded = settings(max_examples=25, deadline=None)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)
SEEDS = st.integers(0, 10**6)
AVERAGES = (False, None, True, "macro", "micro", "weighted")
BOTH = pytest.mark.parametrize(
    ("kind", "reference"),
    [(Precision, sklearn_metrics.precision_score), (Recall, sklearn_metrics.recall_score)],
    ids=["precision", "recall"],
)


def values(random, shape, high=2):
    """Return random integers."""
    return torch.randint(high, shape, generator=random)


def rows(tensors):
    """Join batches into a numpy array of examples, or of rows of labels."""
    return torch.cat([t.movedim(1, -1).flatten(0, -2) if t.ndim > 1 else t for t in tensors]).numpy()


def computed(metric, batches):
    """Return the metric's value for these batches as a numpy array."""
    for batch in batches:
        metric.update(batch)
    return np.asarray(metric.compute())


def expected(reference, target, predicted, average, labels):
    """Return the value of scikit-learn."""
    name = {False: None, True: "macro"}.get(average, average)
    return reference(target, predicted, average=name, labels=labels, zero_division=0)


@BOTH
@bounded
@given(SIZES, st.sampled_from([2, 3, 7, 70]), st.sampled_from([(), (3,), (2, 2)]), SEEDS)
def test_multiclass_equals_scikit_learn(kind, reference, sizes, classes, extra, seed):
    """Every average equals scikit-learn's, with few and many classes and absent ones (M-085)."""
    random = torch.Generator().manual_seed(seed)
    batches = [
        (torch.randn(n, classes, *extra, generator=random), values(random, (n, *extra), classes))
        for n in sizes
    ]
    predicted = np.concatenate([x.argmax(1).numpy().ravel() for x, _ in batches])
    target = np.concatenate([y.numpy().ravel() for _, y in batches])
    for average in AVERAGES:
        right = expected(reference, target, predicted, average, range(classes))
        np.testing.assert_allclose(computed(kind(average=average), batches), right, rtol=1e-12)


@BOTH
@bounded
@given(
    SIZES,
    st.sampled_from([(), (1,), (3, 2)]),
    st.sampled_from([torch.bool, torch.int64, torch.float32]),
    SEEDS,
)
def test_binary_equals_scikit_learn(kind, reference, sizes, extra, dtype, seed):
    """average=False is the value of class 1; other averages use both classes (M-085)."""
    random = torch.Generator().manual_seed(seed)
    batches = [tuple(values(random, (n, *extra)).to(dtype) for _ in "py") for n in sizes]
    predicted, target = (np.concatenate([b[i].long().numpy().ravel() for b in batches]) for i in (0, 1))
    one = computed(kind(), batches)
    assert one == pytest.approx(reference(target, predicted, zero_division=0), rel=1e-12)
    assert one.shape == ()
    for average in AVERAGES[1:]:
        right = expected(reference, target, predicted, average, [0, 1])
        np.testing.assert_allclose(computed(kind(average=average), batches), right, rtol=1e-12)
    with_class_dimension = [(x.unsqueeze(1), y) for x, y in batches]
    assert computed(kind(), with_class_dimension) == one


@BOTH
@bounded
@given(SIZES, st.integers(2, 4), st.sampled_from([(), (3,)]), SEEDS)
def test_multilabel_equals_scikit_learn(kind, reference, sizes, labels, extra, seed):
    """Every average of multilabel data equals scikit-learn's (M-085)."""
    random = torch.Generator().manual_seed(seed)
    batches = [tuple(values(random, (n, labels, *extra)) for _ in "py") for n in sizes]
    predicted, target = (rows([b[i] for b in batches]) for i in (0, 1))
    for average in (*AVERAGES, "samples"):
        right = expected(reference, target, predicted, average, None)
        value = computed(kind(average=average, is_multilabel=True), batches)
        np.testing.assert_allclose(value, right, rtol=1e-12)


@BOTH
def test_types_of_values(kind, reference):
    """The value is a float64 tensor without an average, otherwise a number (M-085)."""
    multiclass = (torch.eye(3), torch.tensor([0, 1, 1]))
    binary = (torch.tensor([1, 0]), torch.tensor([1, 1]))
    for average, data, shape in ((False, multiclass, (3,)), (None, binary, (2,)), (False, binary, ())):
        metric = kind(average=average)
        metric.update(data)
        assert (metric.compute().dtype, metric.compute().shape) == (torch.float64, shape)
    for average in (True, "micro", "weighted"):
        metric = kind(average=average)
        metric.update(multiclass)
        assert type(metric.compute()) is float
    engine = Engine(lambda engine, batch: batch)
    kind().attach(engine, "value")
    assert type(engine.run([binary]).metrics["value"]) is float


def test_known_values():
    """Known values; a class without predictions or targets has 0 (M-085)."""
    scores = torch.eye(4)[torch.tensor([0, 0, 0, 1, 3])]
    batch = scores, torch.tensor([0, 0, 1, 2, 0])
    assert computed(Precision(), [batch]).tolist() == [2 / 3, 0.0, 0.0, 0.0]
    assert computed(Recall(), [batch]).tolist() == [2 / 3, 0.0, 0.0, 0.0]
    assert computed(Precision(average="weighted"), [batch]) == pytest.approx(0.4)
    assert computed(Recall(average="micro"), [batch]) == pytest.approx(0.4)


@BOTH
def test_counts_are_exact_above_float_precision(kind, reference):
    """Counts are exact above 2**24, the limit of 32-bit floats."""
    metric = kind()
    metric.update((torch.ones(3), torch.ones(3)))
    metric._total += 2**24
    metric.update((torch.ones(1), torch.ones(1)))
    assert metric._total.tolist() == [[2**24 + 4]] * 3


@pytest.mark.parametrize("average", ["mean", 3, "Macro", 1.5])
def test_unknown_averages(average):
    """An unknown average is refused with the list of valid ones (M-085)."""
    with pytest.raises(ValueError, match=r"'macro', 'micro', 'weighted', 'samples', got"):
        Precision(average=average)


@BOTH
def test_samples_need_multilabel_data(kind, reference):
    """average='samples' needs multilabel data (M-085)."""
    for data, name in (
        ((torch.eye(3), torch.arange(3)), "multiclass"),
        ((torch.ones(3), torch.ones(3)), "binary"),
    ):
        with pytest.raises(
            ValueError,
            match=rf"\w+ with average='samples' needs multilabel data, got {name} data; set is_multilabel",
        ):
            kind(average="samples").update(data)


@pytest.mark.parametrize("bad", [3, -1, 255, torch.iinfo(torch.int64).min])
def test_invalid_targets(bad):
    """Invalid targets are refused and not counted (M-085)."""
    metric = Recall()
    with pytest.raises(ValueError, match=rf"classes from 0 to 2.*y contains \[{bad}\].*output_transform"):
        metric.update((torch.eye(3), torch.tensor([0, bad, 1])))
    with pytest.raises(NotComputableError):
        metric.compute()


def test_float_labels():
    """Integral floats are valid labels; fractional ones are not (M-085)."""
    metric = Precision(average="micro")
    metric.update((torch.eye(3), torch.tensor([0.0, 1.0, 1.0])))
    assert metric.compute() == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match=r"y contains \[0.5\]"):
        metric.update((torch.eye(3), torch.tensor([0.0, 0.5, 1.0])))


@pytest.mark.parametrize("which", ["y_pred", "y"])
def test_binary_values_are_0_and_1(which):
    """Other binary values are refused (M-085)."""
    data = {"y_pred": torch.tensor([0.0, 1.0]), "y": torch.tensor([0.0, 1.0])}
    data[which][1] = 0.5
    with pytest.raises(ValueError, match=rf"must be 0 or 1, but {which} contains \[0.5\]"):
        Precision().update((data["y_pred"], data["y"]))


@pytest.mark.parametrize(
    ("y_pred", "y", "is_multilabel"),
    [
        ((4,), (4, 1), False),
        ((4, 3), (3,), False),
        ((4, 3, 2), (4, 3), False),
        ((4,), (4,), True),
        ((4, 3), (4,), True),
    ],
)
def test_mismatched_shapes(y_pred, y, is_multilabel):
    """Mismatched shapes raise an error that names both shapes (M-085)."""
    with pytest.raises(ValueError, match=r"\(N, C, ...\)") as caught:
        Recall(is_multilabel=is_multilabel).update((torch.zeros(y_pred), torch.zeros(y)))
    assert str(y_pred) in str(caught.value)


def test_kind_must_not_change():
    """The kind of data and the number of classes must not change between resets (M-085)."""
    metric = Precision()
    metric.update((torch.eye(3), torch.arange(3)))
    with pytest.raises(RuntimeError, match=r"data of Precision changed from multiclass to binary"):
        metric.update((torch.ones(3), torch.ones(3)))
    with pytest.raises(ValueError, match=r"number of classes of Precision changed from 3 to 2"):
        metric.update((torch.eye(2), torch.arange(2)))
    metric.reset()
    metric.update((torch.ones(3), torch.ones(3)))
    assert metric.compute() == 1.0


def test_not_tensors():
    """Outputs without tensors are refused with their types."""
    with pytest.raises(
        TypeError, match=r"Recall needs tensors y_pred and y, got list and list.*output_transform"
    ):
        Recall().update(([0, 1], [0, 1]))


@BOTH
def test_without_examples(kind, reference):
    """No examples, or empty batches only, raise NotComputableError (M-010)."""
    metric = kind()
    with pytest.raises(NotComputableError, match=f"{kind.__name__} has received no examples"):
        metric.compute()
    metric.update((torch.zeros(0, 3), torch.zeros(0).long()))
    with pytest.raises(NotComputableError):
        metric.compute()
    metric.update((torch.eye(3), torch.arange(3)))
    assert metric.compute().tolist() == [1.0, 1.0, 1.0]


def test_mappings_lists_and_sequences():
    """Mappings, lists of samples and padded sequences are accepted (M-008, M-009)."""
    engine = Engine(lambda engine, batch: batch)
    Precision(average=True).attach(engine, "macro")
    scores, labels = torch.eye(2), torch.tensor([0, 0])
    assert engine.run([{"y": labels, "y_pred": scores, "loss": 1}]).metrics == {"macro": 0.5}
    assert engine.run([(list(scores), labels.tolist())]).metrics == {"macro": 0.5}
    padded = Recall(output_transform=Recall.get_sequence_transform(ignore_index=-100))
    engine = Engine(lambda engine, batch: batch)
    padded.attach(engine, "recall")
    value = engine.run([(scores.unsqueeze(0), torch.tensor([[0, -100]]))]).metrics["recall"]
    assert value.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("classes", [3, 70])
@pytest.mark.parametrize("average", [False, "weighted"])
def test_state_and_pickle(classes, average):
    """A metric continues from its saved state and as a copy, with few and many classes (M-012, M-070)."""
    assert (classes <= FEW_CLASSES) == (classes == 3)
    random = torch.Generator().manual_seed(0)
    first, second = (
        (torch.randn(9, classes, generator=random), values(random, (9,), classes)) for _ in range(2)
    )
    metric = Precision(average=average)
    metric.update(first)
    fresh = Precision(average=average)
    state = metric.state_dict()
    fresh.load_state_dict(state)
    others = [fresh, copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))]
    right = computed(Precision(average=average), [first, second])
    for other in (metric, *others):
        np.testing.assert_array_equal(computed(other, [second]), right)
    again = Precision(average=average)
    again.load_state_dict(state)  # later updates did not change it
    np.testing.assert_array_equal(computed(again, [second]), right)


def test_state_contains_the_kind():
    """A loaded metric refuses data of another kind (M-070)."""
    metric, fresh = Recall(), Recall()
    metric.update((torch.ones(3), torch.ones(3)))
    fresh.load_state_dict(metric.state_dict())
    with pytest.raises(RuntimeError, match="changed from binary"):
        fresh.update((torch.eye(3), torch.arange(3)))
