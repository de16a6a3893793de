"""EpochMetric."""

import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings, strategies as st

from glowplug import Engine, Events
from glowplug.exceptions import NotComputableError
from glowplug_metrics import EpochMetric, EpochMetricWarning


def both(y_pred, y):
    """Return the arguments; at module level, because it must be picklable."""
    return y_pred.tolist(), y.tolist()


def largest_error(y_pred, y):
    """Return a number that is not a sum over batches."""
    return (y_pred - y).abs().max().item()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=5), st.sampled_from([(), (3,)]), st.integers(0, 10**6)
)
def test_function_gets_all_outputs(sizes, extra, seed):
    """compute_fn gets the examples of all batches in order (M-089)."""
    random = torch.Generator().manual_seed(seed)
    batches = [
        (torch.randn(n, *extra, generator=random), torch.randint(9, (n,), generator=random)) for n in sizes
    ]
    metric = EpochMetric(both)
    for batch in batches:
        metric.update(batch)
    if sum(sizes) == 0:
        with pytest.raises(NotComputableError, match="EpochMetric has received no examples"):
            metric.compute()
    else:
        assert metric.compute() == tuple(torch.cat(parts).tolist() for parts in zip(*batches, strict=True))


def test_attached():
    """Each epoch has the value of its outputs, even if a batch tensor is reused (M-089)."""
    buffer = torch.zeros(2)
    engine = Engine(lambda engine, batch: (buffer.fill_(batch), torch.zeros(2)))
    EpochMetric(both).attach(engine, "both")
    assert engine.run([1.0, 2.0], max_epochs=2).metrics == {"both": ([1.0, 1.0, 2.0, 2.0], [0.0] * 4)}


def test_column_is_converted_to_vector():
    """(N, 1) is converted to (N,) (M-089)."""
    metric = EpochMetric(both)
    metric.update((torch.tensor([[1.0], [2.0]]), torch.tensor([[3], [4]])))
    metric.update((torch.tensor([5.0]), torch.tensor([6])))
    assert metric.compute() == ([1.0, 2.0, 5.0], [3, 4, 6])


def test_value_is_cached():
    """The value is cached until an update, a reset or a loaded state (M-061, M-089)."""
    calls = []

    def count(y_pred, y):
        calls.append(len(y))
        return len(y)

    metric, other = (EpochMetric(count, check_compute_fn=False) for _ in range(2))
    batch = torch.zeros(2), torch.zeros(2)
    metric.update(batch)
    assert [metric.compute(), metric.compute()] == [2, 2]
    assert calls == [2]
    state = metric.state_dict()
    metric.update(batch)
    assert metric.compute() == 4
    other.update((torch.zeros(7), torch.zeros(7)))
    assert other.compute() == 7
    other.load_state_dict(state)
    assert other.compute() == 2
    metric.reset()
    with pytest.raises(NotComputableError):
        metric.compute()


def test_check_compute_fn():
    """A function that fails on the first batch gives a warning, unless check_compute_fn=False (M-089)."""

    def failing(y_pred, y):
        raise ZeroDivisionError("only one class")

    batch = torch.zeros(2), torch.zeros(2)
    metric = EpochMetric(failing)
    with pytest.warns(
        EpochMetricWarning, match=r"ZeroDivisionError: only one class; .*check_compute_fn=False"
    ):
        metric.update(batch)
    metric.update(batch)  # a second warning would raise here
    with pytest.raises(ZeroDivisionError, match="only one class"):
        metric.compute()
    EpochMetric(failing, check_compute_fn=False).update(batch)


@pytest.mark.parametrize("shape", [(), (2, 3, 4)])
@pytest.mark.parametrize("which", [0, 1])
def test_shapes(shape, which):
    """Outputs must have one or two dimensions (M-089)."""
    batch = [torch.zeros(2), torch.zeros(2)]
    batch[which] = torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"{['y_pred', 'y'][which]} must have the shape \(N,\) or \(N, C\)"):
        EpochMetric(both).update(batch)


def test_invalid_outputs():
    """Different numbers of examples and objects other than tensors are refused (M-089)."""
    with pytest.raises(ValueError, match="same number of examples, got 3 and 2"):
        EpochMetric(both).update((torch.zeros(3), torch.zeros(2)))
    with pytest.raises(TypeError, match="needs a tensor for y, got list;"):
        EpochMetric(both).update((torch.zeros(3), [1, 2, 3]))
    with pytest.raises(TypeError, match=r"compute_fn must be a function compute_fn\(y_pred, y\), got 3"):
        EpochMetric(3)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            (torch.zeros(2).double(), torch.zeros(2)),
            r"y_pred changed from torch.float32 of shape \(N\) to torch.float64",
        ),
        (
            (torch.zeros(2), torch.zeros(2).long()),
            r"y changed from torch.float32 of shape \(N\) to torch.int64",
        ),
        (
            (torch.zeros(2, 3), torch.zeros(2)),
            r"y_pred changed from .* \(N\) to .* \(N, 3\) since the last reset",
        ),
    ],
)
def test_types_and_shapes_must_not_change(batch, message):
    """A batch of another type or shape is refused and not stored (M-089)."""
    metric = EpochMetric(both)
    metric.update((torch.ones(1), torch.ones(1)))
    with pytest.raises(ValueError, match=message):
        metric.update(batch)
    assert metric.compute() == ([1.0], [1.0])


def test_outputs_are_detached():
    """Stored outputs have no gradients."""
    metric = EpochMetric(lambda y_pred, y: y_pred.requires_grad)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update((torch.ones(2, requires_grad=True) * 2, torch.ones(2)))
    assert metric.compute() is False


def test_state_resumes_and_pickles():
    """A state saved in the middle of an epoch resumes in a new engine with the same value."""

    def make():
        engine = Engine(lambda engine, batch: (torch.tensor([batch]), torch.zeros(1)))
        EpochMetric(both).attach(engine, "both")
        return engine

    engine, states = make(), []
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: states.append(e.state_dict()))
    expected = engine.run([1.0, 2.0, 3.0]).metrics
    fresh = make()
    fresh.load_state_dict(states[0])
    assert fresh.run([1.0, 2.0, 3.0]).metrics == expected
    metric = EpochMetric(largest_error)
    metric.update((torch.zeros(2), torch.ones(2)))
    assert pickle.loads(pickle.dumps(metric)).compute() == 1.0


def test_two_ranks(run_ranks):
    """Two ranks agree: uneven or missing data, extra updates, and a function that fails on rank 0 (D2, M-089)."""

    def check(rank):
        import torch

        from glowplug_metrics import EpochMetric

        def error(metric):
            try:
                metric.compute()
            except Exception as error:
                return f"{type(error).__name__}: {error}"

        def tensors(y_pred, y):
            return y_pred.sum(0), y.tolist()

        metric = EpochMetric(tensors, check_compute_fn=False)
        for n in [3, 2] if rank == 0 else [1]:
            metric.update((torch.full((n, 2), float(n)), torch.full((n,), n)))
        total, y = metric.compute()
        if rank == 1:
            metric.update((torch.full((1, 2), 10.0), torch.tensor([10])))
        _, later = metric.compute()
        metric.reset()
        empty = error(metric)
        if rank == 1:
            metric.update((torch.ones(1, 2), torch.tensor([7])))
        _, only_one = metric.compute()
        failing = EpochMetric(lambda y_pred, y: 1 / 0, check_compute_fn=False)
        failing.update((torch.ones(1), torch.ones(1)))
        mixed = EpochMetric(tensors, check_compute_fn=False)
        mixed.update((torch.ones(1, dtype=torch.float64 if rank else torch.float32), torch.ones(1)))
        return [total.tolist(), y, later, empty, only_one, error(failing), error(mixed)]

    results = run_ranks(check)
    for rank, (total, y, later, empty, only_one, failing, mixed) in enumerate(results):
        assert total == [14.0, 14.0]
        assert y == [3, 3, 3, 2, 2, 1]
        assert later == [3, 3, 3, 2, 2, 1, 10]
        assert "NotComputableError: EpochMetric has received no examples" in empty
        assert only_one == [7]
        assert failing == (
            "RuntimeError: compute_fn of EpochMetric failed on rank 0: ZeroDivisionError: division by zero"
            if rank
            else "ZeroDivisionError: division by zero"
        )
        assert (
            "ValueError: the examples of EpochMetric must have the same dtype and shape on all ranks" in mixed
        )
