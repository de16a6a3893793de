"""VariableAccumulation, Average and GeometricAverage."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from glowplug import Engine
from glowplug.exceptions import NotComputableError
from glowplug_metrics import Average, GeometricAverage, VariableAccumulation
from glowplug_metrics.accumulation import add_examples


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 10**6))
def test_average_equals_numpy_mean(sizes, seed):
    """Average equals numpy's mean over the first dimension of batches (M-082)."""
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(n, 3, generator=generator) for n in sizes]
    average = Average()
    for batch in batches:
        average.update(batch)
    expected = np.concatenate([batch.double().numpy() for batch in batches]).mean(axis=0)
    np.testing.assert_allclose(average.compute().numpy(), expected, rtol=1e-12, atol=1e-15)


def test_numbers_are_one_example():
    """A number or a scalar tensor counts as one example (M-082)."""
    average = Average()
    for output in (2, 4.0, torch.tensor(6)):
        average.update(output)
    assert average.compute() == 4.0
    assert average.compute().dtype is torch.float64


@pytest.mark.parametrize(
    ("sizes", "expected"), [((4, 1), 11 / 5), ((4, 2), 13 / 6), ((1, 4), 11 / 5), ((4, 0), 2.5)]
)
def test_vectors_are_batches(sizes, expected):
    """The mean of vectors, such as losses with reduction="none", covers each example once, whatever the batches (M-082)."""
    batches = [torch.arange(1.0, n + 1) for n in sizes]
    engine = Engine(lambda engine, batch: batch)
    Average().attach(engine, "average")
    GeometricAverage(output_transform=torch.exp).attach(engine, "geometric")
    total = VariableAccumulation(add_examples)
    total.attach(engine, "total")
    metrics = engine.run(batches).metrics
    assert metrics["average"] == pytest.approx(expected)
    assert metrics["geometric"] == pytest.approx(np.exp(expected))
    assert total.num_examples == sum(sizes)


def test_elements_of_a_vector():
    """With a batch dimension, each element of a vector has its own mean (M-082)."""
    average = Average(output_transform=lambda vector: vector.unsqueeze(0))
    engine = Engine(lambda engine, batch: batch)
    average.attach(engine, "average")
    assert engine.run([torch.tensor([1.0, 2.0]), torch.tensor([3, 4])]).metrics["average"].tolist() == [
        2.0,
        3.0,
    ]


@pytest.mark.parametrize("kind", [Average, GeometricAverage])
@pytest.mark.parametrize("other", [torch.ones(2, 1), torch.ones(2, 4), torch.ones(2), torch.tensor(1.0), 1.0])
def test_examples_of_another_shape(kind, other):
    """Examples of another shape are refused with both shapes instead of being broadcast (M-082)."""
    average = kind()
    average.update(torch.ones(4, 3))
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} needs examples of one shape, got .* after shape \(3,\)"
    ):
        average.update(other)


def test_attached_average_is_a_number():
    """A scalar average is published as a Python float."""
    engine = Engine(lambda engine, batch: torch.tensor(batch))
    Average().attach(engine, "average")
    metrics = engine.run([1.0, 2.0, 6.0]).metrics
    assert metrics == {"average": 3.0}
    assert isinstance(metrics["average"], float)


def test_custom_operation():
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


def test_invalid_outputs_and_operations():
    """Invalid outputs and operations are refused with their type or value."""
    with pytest.raises(TypeError, match=r"Average accepts numbers and tensors, got str.*output_transform"):
        Average().update("x")
    with pytest.raises(TypeError, match=r"op must be a function .* got 3"):
        VariableAccumulation(3)
    engine = Engine(lambda engine, batch: {"loss": batch})
    Average().attach(engine, "average")
    with pytest.raises(TypeError, match="Average does not accept mappings"):
        engine.run([1])


def test_without_examples():
    """Averages without examples raise NotComputableError (M-010)."""
    with pytest.raises(NotComputableError, match="Average has received no examples"):
        Average().compute()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 10**6))
def test_geometric_average_equals_root_of_product(sizes, seed):
    """GeometricAverage equals the n-th root of the product for batches of any size (M-082)."""
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.rand(n, 3, generator=generator) + 0.5 for n in sizes]
    average = GeometricAverage()
    for batch in batches:
        average.update(batch)
    expected = np.concatenate([b.double().numpy() for b in batches]).prod(axis=0) ** (1 / sum(sizes))
    np.testing.assert_allclose(average.compute().numpy(), expected, rtol=1e-12)


def test_geometric_average_of_numbers_and_rows():
    """GeometricAverage handles numbers, rows, 0, negative values and missing data (M-082)."""
    for outputs, expected in (
        ([2, 8.0], 4.0),
        ([torch.tensor(2), torch.tensor(8)], 4.0),
        ([torch.tensor([[2.0, 1.0]]), torch.tensor([[8.0, 4.0]])], [4.0, 2.0]),
        ([0.0, 5.0], 0.0),
    ):
        average = GeometricAverage()
        for output in outputs:
            average.update(output)
        assert average.compute().tolist() == pytest.approx(expected)
    average.update(-1.0)
    assert average.compute().isnan()
    average.reset()
    with pytest.raises(NotComputableError, match="GeometricAverage has received no examples"):
        average.compute()


def test_state():
    """An average continues from its saved state."""
    average, fresh = Average(), Average()
    average.update(torch.ones(2, 3))
    fresh.load_state_dict(average.state_dict())
    average.update(torch.full((2, 3), 7.0))
    fresh.update(torch.full((2, 3), 4.0))
    assert fresh.compute().tolist() == [2.5] * 3


def test_two_ranks(run_ranks):
    """Two ranks with different numbers of examples return the average of all (D2)."""

    def check(rank):
        import torch

        from glowplug_metrics import Average

        numbers, rows = Average(), Average()
        for value in [1.0, 2.0, 3.0] if rank == 0 else [10.0]:
            numbers.update(value)
        if rank == 0:
            rows.update(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        first = rows.compute().tolist()
        rows.update(torch.tensor([[5.0, 6.0]]))
        return [numbers.compute().item(), numbers.num_examples, first, rows.compute().tolist()]

    first, second = run_ranks(check)
    assert first == [4.0, 3, [2.0, 3.0], [3.5, 4.5]]
    assert second == [4.0, 1, [2.0, 3.0], [3.5, 4.5]]
