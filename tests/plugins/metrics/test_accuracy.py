"""Accuracy, compared with numpy."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from glowplug import Engine
from glowplug.exceptions import NotComputableError
from glowplug_metrics import Accuracy
from glowplug_metrics.accuracy import matches

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)
bounded = settings(max_examples=40, deadline=None)


def generator(seed):
    """Return a random generator."""
    return torch.Generator().manual_seed(seed)


def accuracy_of(batches, **arguments):
    """Return the accuracy over batches of (y_pred, y)."""
    metric = Accuracy(**arguments)
    for batch in batches:
        metric.update(batch)
    return metric.compute()


@bounded
@given(SIZES, st.integers(2, 6), st.sampled_from([(), (3,), (2, 2)]), st.integers(0, 10**6))
def test_multiclass_equals_numpy(sizes, classes, extra, seed):
    """Multiclass accuracy equals numpy's for batches of any size and shape (M-084)."""
    random = generator(seed)
    batches = [
        (
            torch.randn(n, classes, *extra, generator=random),
            torch.randint(classes, (n, *extra), generator=random),
        )
        for n in sizes
    ]
    predicted = np.concatenate([x.numpy().argmax(1).ravel() for x, _ in batches])
    target = np.concatenate([y.numpy().ravel() for _, y in batches])
    assert accuracy_of(batches) == (predicted == target).mean()


@bounded
@given(
    SIZES,
    st.sampled_from([(), (1,), (3,)]),
    st.sampled_from([torch.bool, torch.int64, torch.float32]),
    st.integers(0, 10**6),
)
def test_binary_equals_numpy(sizes, extra, dtype, seed):
    """Binary accuracy equals numpy's for all types, with and without a class dimension (M-084)."""
    random = generator(seed)
    shapes = [(n, *extra) for n in sizes]
    batches = [[torch.randint(2, shape, generator=random).to(dtype) for _ in "py"] for shape in shapes]
    predicted, target = (np.concatenate([batch[i].numpy().ravel() for batch in batches]) for i in (0, 1))
    expected = (predicted == target).mean()
    assert accuracy_of(batches) == expected
    assert accuracy_of([(x.unsqueeze(1), y) for x, y in batches]) == expected


@bounded
@given(SIZES, st.integers(2, 4), st.sampled_from([(), (3,)]), st.integers(0, 10**6))
def test_multilabel_counts_fully_correct_examples(sizes, labels, extra, seed):
    """A multilabel example is correct if all its labels are (M-084)."""
    random = generator(seed)
    batches = [tuple(torch.randint(2, (n, labels, *extra), generator=random) for _ in "py") for n in sizes]
    rows = [(x == y).numpy().all(axis=1).ravel() for x, y in batches]
    assert accuracy_of(batches, is_multilabel=True) == np.concatenate(rows).mean()


def test_agrees_with_scikit_learn():
    """Accuracy equals accuracy_score of scikit-learn."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    random = generator(0)
    scores, labels = torch.randn(33, 7, generator=random), torch.randint(7, (33,), generator=random)
    batches = list(zip(scores.split(8), labels.split(8), strict=True))
    assert accuracy_of(batches) == sklearn_metrics.accuracy_score(labels.numpy(), scores.argmax(1).numpy())
    rows = [torch.randint(2, (33, 2), generator=random) for _ in "py"]
    batches = list(zip(rows[0].split(8), rows[1].split(8), strict=True))
    assert accuracy_of(batches, is_multilabel=True) == sklearn_metrics.accuracy_score(
        rows[1].numpy(), rows[0].numpy()
    )


def test_small_last_batch_is_weighted_by_examples():
    """Batches are weighted by their number of examples."""
    metric, engine = Accuracy(), Engine(lambda engine, batch: batch)
    metric.attach(engine, "accuracy")
    first = torch.tensor([1, 1, 1, 0]), torch.tensor([1, 1, 1, 1])
    last = torch.tensor([0]), torch.tensor([1])
    assert engine.run([first, last]).metrics == {"accuracy": 0.6}


def test_mappings_and_lists_of_samples():
    """Accuracy accepts mappings with y_pred and y, and lists of samples."""
    engine = Engine(lambda engine, batch: batch)
    Accuracy().attach(engine, "accuracy")
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    labels = torch.tensor([1, 1])
    assert engine.run([{"y": labels, "y_pred": scores, "loss": 1}]).metrics == {"accuracy": 0.5}
    assert engine.run([(list(scores), labels.tolist())]).metrics == {"accuracy": 0.5}


def test_matches():
    """matches() returns one bool per example."""
    scores = torch.tensor([[[0.1, 0.9], [0.8, 0.2]]])
    assert matches(scores, torch.tensor([[1, 0]])).tolist() == [[True, True]]
    rows = torch.tensor([[0, 1], [1, 1]])
    assert matches(rows, torch.tensor([[0, 1], [1, 0]]), is_multilabel=True).tolist() == [True, False]


@pytest.mark.parametrize(
    ("y_pred", "y", "is_multilabel"),
    [
        ((4,), (4, 1), False),
        ((4, 3), (3,), False),
        ((4, 3, 2, 2), (4, 3), False),
        ((3,), (), False),
        ((4,), (4,), True),
        ((4, 1), (4, 1), True),
        ((4, 3), (4,), True),
    ],
)
def test_mismatched_shapes(y_pred, y, is_multilabel):
    """Mismatched shapes raise an error that names both shapes (M-084)."""
    with pytest.raises(ValueError, match=r"\(N, C, ...\)") as caught:
        accuracy_of([(torch.zeros(y_pred), torch.zeros(y))], is_multilabel=is_multilabel)
    assert str(y_pred) in str(caught.value)
    assert str(y) in str(caught.value)


def test_not_tensors():
    """Outputs without tensors are refused with their types."""
    with pytest.raises(TypeError, match=r"tensors y_pred and y, got ndarray and int.*output_transform"):
        Accuracy().update((np.zeros(3), 1))


@pytest.mark.parametrize("bad", [0.75, -1.0, 2.0, float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["y_pred", "y"])
def test_binary_values_are_0_and_1(bad, which):
    """Other binary values are refused and not counted (M-084)."""
    values = {"y_pred": torch.tensor([0.0, 1.0]), "y": torch.tensor([0.0, 1.0])}
    values[which][1] = bad
    metric = Accuracy()
    with pytest.raises(
        ValueError, match=rf"must be 0 or 1, but {which} contains \[{bad}\].*output_transform"
    ):
        metric.update((values["y_pred"], values["y"]))
    with pytest.raises(NotComputableError):
        metric.compute()


def test_kind_must_not_change():
    """The kind of data and the number of classes must not change between resets (M-084)."""
    metric = Accuracy()
    metric.update((torch.ones(4, 3), torch.zeros(4).long()))
    with pytest.raises(RuntimeError, match=r"data of Accuracy changed from multiclass to binary"):
        metric.update((torch.ones(4), torch.ones(4)))
    with pytest.raises(ValueError, match=r"number of classes of Accuracy changed from 3 to 2"):
        metric.update((torch.ones(4, 2), torch.ones(4).long()))
    metric.reset()
    metric.update((torch.ones(4), torch.ones(4)))
    assert metric.compute() == 1.0


def test_without_examples():
    """Accuracy without examples raises NotComputableError (M-010)."""
    with pytest.raises(NotComputableError, match="Accuracy has received no examples"):
        Accuracy().compute()


def test_get_sequence_transform():
    """get_sequence_transform makes elements examples and omits ignored labels (M-084)."""
    y_pred, y = torch.arange(24.0).view(2, 3, 4), torch.tensor([[0, 1, 2], [0, 0, 3]])
    for ignored, kept in (
        (None, [0, 1, 2, 0, 0, 3]),
        (0, [1, 2, 3]),
        ({0, 3}, [1, 2]),
        (iter([2]), [0, 1, 0, 0, 3]),
    ):
        transform = Accuracy.get_sequence_transform(ignored)
        flat_pred, flat_y = transform((y_pred, y))
        assert flat_y.tolist() == kept
        assert flat_pred.shape == (len(kept), 4)
    assert torch.equal(flat_pred[0], y_pred[0, 0])
    after = Accuracy.get_sequence_transform(0, lambda output: {"y_pred": output[1], "y": output[0]})
    assert after((y, y_pred))[1].tolist() == [1, 2, 3]
    pickle.dumps(Accuracy(output_transform=Accuracy.get_sequence_transform(0)))


@pytest.mark.parametrize(("y_pred", "y"), [((2, 3), (2, 3)), ((2, 3, 1), (2, 3, 1)), ((2, 3, 4), (2, 4))])
def test_get_sequence_transform_shapes(y_pred, y):
    """get_sequence_transform refuses other shapes (M-084)."""
    with pytest.raises(ValueError, match=r"must have the shapes \(N, S, C\) and \(N, S\)"):
        Accuracy.get_sequence_transform()((torch.zeros(y_pred), torch.zeros(y)))


def test_state_and_pickle():
    """A metric continues from its saved state and as a copy."""
    metric, right = Accuracy(), (torch.tensor([1, 0]), torch.tensor([1, 1]))
    metric.update(right)
    fresh = Accuracy()
    fresh.load_state_dict(metric.state_dict())
    for other in (fresh, pickle.loads(pickle.dumps(metric))):
        other.update((torch.tensor([1]), torch.tensor([1])))
        assert other.compute() == 2 / 3


def test_two_ranks_with_uneven_data(run_ranks):
    """Two ranks with different numbers of examples return the accuracy of all (D2)."""

    def check(rank):
        import torch

        from glowplug import Engine
        from glowplug_metrics import Accuracy

        scores = torch.eye(4)[torch.tensor([0, 1, 2, 3, 0, 1, 2])]
        labels = torch.tensor([0, 1, 2, 0, 0, 0, 2])
        own = slice(0, 5) if rank == 0 else slice(5, 7)
        engine = Engine(lambda engine, batch: batch)
        Accuracy().attach(engine, "accuracy")
        batches = list(zip(scores[own].split(3), labels[own].split(3), strict=True))
        both = engine.run(batches).metrics["accuracy"]
        metric = Accuracy()
        if rank == 0:
            metric.update((torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0])))
        first = metric.compute()
        metric.update((torch.tensor([1]), torch.tensor([1])))
        return [both, first, metric.compute()]

    assert run_ranks(check) == [[5 / 7, 2 / 3, 4 / 5]] * 2
