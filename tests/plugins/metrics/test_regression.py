"""MeanAbsoluteError, MeanSquaredError and RootMeanSquaredError, compared with numpy."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from glowplug import Engine
from glowplug.exceptions import NotComputableError
from glowplug_metrics import MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError
from glowplug_metrics.regression import difference

ALL = (MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError)
each_metric = pytest.mark.parametrize("kind", ALL)


def value_of(kind, *batches):
    """Return the value over batches of (y_pred, y)."""
    metric = kind()
    for batch in batches:
        metric.update(batch)
    return metric.compute()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from([(), (3,), (2, 2)]),
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool]),
    st.integers(0, 10**6),
)
def test_errors_equal_numpy(sizes, extra, dtype, seed):
    """Errors equal numpy's for batches of any size, shape and type (M-091)."""
    random = torch.Generator().manual_seed(seed)
    batches = [
        [(100 * torch.rand(n, *extra, generator=random)).to(dtype) for _ in ("y_pred", "y")] for n in sizes
    ]
    errors = np.concatenate([(p.double() - y.double()).numpy().ravel() for p, y in batches])
    squared = (errors**2).sum() / sum(sizes)
    for kind, expected in zip(
        ALL, (np.abs(errors).sum() / sum(sizes), squared, math.sqrt(squared)), strict=True
    ):
        got = value_of(kind, *batches)
        assert isinstance(got, float)
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-4 if dtype is torch.float32 else 1e-9)


def test_agrees_with_scikit_learn():
    """With one number per example, errors equal scikit-learn's (M-091)."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    y_pred, y = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batches = list(zip(y_pred.split(16), y.split(16), strict=True))
    functions = ("mean_absolute_error", "mean_squared_error", "root_mean_squared_error")
    for kind, function in zip(ALL, functions, strict=True):
        expected = getattr(sklearn_metrics, function)(y.numpy(), y_pred.numpy())
        assert value_of(kind, *batches) == pytest.approx(expected, rel=1e-12)


def test_precision_of_sums():
    """Large integers, large squares and small errors keep their precision."""
    assert value_of(MeanAbsoluteError, (torch.tensor([2**40 + 1]), torch.tensor([2**40]))) == 1.0
    assert value_of(MeanAbsoluteError, (torch.tensor([0], dtype=torch.uint8), torch.tensor([255]))) == 255.0
    half = torch.tensor([1000.0], dtype=torch.float16)
    assert value_of(MeanSquaredError, (half, -half)) == 4e6
    one = torch.tensor([1.0]), torch.tensor([0.0])
    large = torch.tensor([2.0**24]), torch.tensor([0.0])
    assert value_of(MeanAbsoluteError, large, *[one] * 4) == (2**24 + 4) / 5


@each_metric
def test_dimensions_of_size_one(kind):
    """(N, 1) and (N,) are compared elementwise, not broadcast to (N, N)."""
    y_pred, y = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0])
    expected = value_of(kind, (y_pred, y))
    assert value_of(kind, (y_pred.unsqueeze(1), y)) == expected
    assert value_of(kind, (y_pred, y.unsqueeze(1))) == expected
    assert difference(y_pred.unsqueeze(1), y).shape == (2, 1)


@each_metric
@pytest.mark.parametrize(
    ("y_pred", "y"),
    [((4,), (3,)), ((4, 1), (1, 4)), ((4, 3), (3, 4)), ((4, 4), (4, 2, 2)), ((), ()), ((1, 4), (4,))],
)
def test_mismatched_shapes(kind, y_pred, y):
    """Mismatched shapes are refused by name, without broadcasting, and not counted."""
    metric = kind()
    with pytest.raises(ValueError, match=r"must have the same shape \(N, ...\)") as caught:
        metric.update((torch.zeros(y_pred), torch.zeros(y)))
    assert f"y_pred {y_pred} and y {y}" in str(caught.value)
    with pytest.raises(NotComputableError):
        metric.compute()


@each_metric
def test_without_examples(kind):
    """No examples raise NotComputableError, and other types are refused (M-010)."""
    with pytest.raises(NotComputableError, match=f"{kind.__name__} has received no examples"):
        value_of(kind, (torch.zeros(0), torch.zeros(0)))
    with pytest.raises(TypeError, match=rf"{kind.__name__} needs tensors .* got list and int"):
        kind().update(([1.0], 1))


@each_metric
def test_attached_saved_and_pickled(kind):
    """Mappings, saved states and copies work, and sums have no gradients."""
    engine, metric = Engine(lambda engine, batch: batch), kind()
    metric.attach(engine, "error")
    y_pred, y = torch.tensor([3.0, 1.0], requires_grad=True), torch.tensor([1.0, 1.0])
    expected = value_of(kind, (y_pred, y))
    assert engine.run([{"y": y, "y_pred": y_pred}]).metrics == {"error": expected}
    fresh = kind()
    fresh.load_state_dict(metric.state_dict())
    assert fresh.compute() == pickle.loads(pickle.dumps(metric)).compute() == expected
    assert not getattr(metric._sum, "requires_grad", False)
