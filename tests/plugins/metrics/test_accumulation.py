"""VariableAccumulation, Average and GeometricAverage."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glowplug import Engine
from glowplug.exceptions import NotComputableError
from glowplug_metrics import Average, GeometricAverage, VariableAccumulation
from glowplug_metrics.accumulation import add_examples


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 10**6))
def test_average_of_batches_is_numpys_mean(sizes, seed):
    """Tensors with two dimensions are batches, averaged over their first one (M-082)."""
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(n, 3, generator=generator) for n in sizes]
    average = Average()
    for batch in batches:
        average.update(batch)
    expected = np.concatenate([batch.double().numpy() for batch in batches]).mean(axis=0)
    np.testing.assert_allclose(average.compute().numpy(), expected, rtol=1e-12, atol=1e-15)


def test_numbers_and_vectors_are_one_example():
    """A number, and a tensor of one dimension, count once (M-082)."""
    average = Average()
    for output in (2, 4.0, torch.tensor(6)):
        average.update(output)
    assert average.compute() == 4.0
    average.reset()
    average.update(torch.tensor([1.0, 2.0]))
    average.update(torch.tensor([3, 4]))
    assert average.compute().tolist() == [2.0, 3.0]
    assert average.compute().dtype is torch.float64


def test_attached_average_is_a_number():
    """In state.metrics a scalar average is a Python float."""
    engine = Engine(lambda engine, batch: torch.tensor(batch))
    Average().attach(engine, "average")
    metrics = engine.run([1.0, 2.0, 6.0]).metrics
    assert metrics == {"average": 3.0}
    assert isinstance(metrics["average"], float)


def test_any_operation():
    """VariableAccumulation returns the accumulator and the number of examples (M-082)."""
    metric = VariableAccumulation(lambda total, x: total + x**2)
    metric.update(3)
    metric.update(torch.tensor(4.0))
    assert metric.compute() == (25.0, 2)
    rows = VariableAccumulation(add_examples)
    rows.update(torch.ones(3, 2))
    total, count = rows.compute()
    assert (total.tolist(), count) == ([3.0, 3.0], 3)
    rows.reset()
    assert rows.compute() == (0.0, 0)


def test_what_cannot_be_accumulated():
    """Other outputs, operations and mappings are named."""
    with pytest.raises(TypeError, match=r"Average takes numbers and tensors, got a str.*output_transform"):
        Average().update("x")
    with pytest.raises(TypeError, match=r"op must be a function .* got 3"):
        VariableAccumulation(3)
    engine = Engine(lambda engine, batch: {"loss": batch})
    Average().attach(engine, "average")
    with pytest.raises(TypeError, match="Average takes no mappings"):
        engine.run([1])


def test_without_examples():
    """There is no average of nothing (M-010)."""
    with pytest.raises(NotComputableError, match="Average has seen no example"):
        Average().compute()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 10**6))
def test_geometric_average_is_the_root_of_the_product(sizes, seed):
    """Over batches of any sizes, in float64 (M-082)."""
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.rand(n, 3, generator=generator) + 0.5 for n in sizes]
    average = GeometricAverage()
    for batch in batches:
        average.update(batch)
    expected = np.concatenate([b.double().numpy() for b in batches]).prod(axis=0) ** (1 / sum(sizes))
    np.testing.assert_allclose(average.compute().numpy(), expected, rtol=1e-12)


def test_geometric_average_of_numbers_and_vectors():
    """Numbers and vectors are one example; 0 makes it 0, a negative value NaN, and nothing has no average (M-082)."""
    for outputs, expected in (
        ([2, 8.0], 4.0),
        ([torch.tensor(2), torch.tensor(8)], 4.0),
        ([torch.tensor([2.0, 1.0]), torch.tensor([8.0, 4.0])], [4.0, 2.0]),
        ([0.0, 5.0], 0.0),
    ):
        average = GeometricAverage()
        for output in outputs:
            average.update(output)
        assert average.compute().tolist() == pytest.approx(expected)
    average.update(-1.0)
    assert average.compute().isnan()
    average.reset()
    with pytest.raises(NotComputableError, match="GeometricAverage has seen no example"):
        average.compute()


def test_state():
    """A saved average goes on where it was."""
    average, fresh = Average(), Average()
    average.update(torch.ones(2, 3))
    fresh.load_state_dict(average.state_dict())
    average.update(torch.full((2, 3), 7.0))
    fresh.update(torch.full((2, 3), 4.0))
    assert fresh.compute().tolist() == [2.5] * 3


def test_two_ranks(run_ranks):
    """Uneven numbers, and vectors of which one rank has none yet, are averaged over all examples (D2)."""

    def check(rank):
        import torch

        from glowplug_metrics import Average

        numbers, vectors = Average(), Average()
        for value in [1.0, 2.0, 3.0] if rank == 0 else [10.0]:
            numbers.update(value)
        if rank == 0:
            vectors.update(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        first = vectors.compute().tolist()
        vectors.update(torch.tensor([5.0, 6.0]))
        return [numbers.compute().item(), numbers.num_examples, first, vectors.compute().tolist()]

    first, second = run_ranks(check)
    assert first == [4.0, 3, [2.0, 3.0], [3.5, 4.5]]
    assert second == [4.0, 1, [2.0, 3.0], [3.5, 4.5]]
