"""Loss, compared with float64 sums."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn.functional import cross_entropy, mse_loss

from glowplug import Engine
from glowplug.exceptions import NotComputableError
from glowplug_metrics import Loss


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 10**6))
def test_mean_over_examples_of_uneven_batches(sizes, seed):
    """Batches are weighted by their number of examples (M-083)."""
    generator = torch.Generator().manual_seed(seed)
    batches = [[torch.randn(n, 3, generator=generator) for _ in "py"] for n in sizes]
    engine = Engine(lambda engine, batch: batch)
    Loss(mse_loss).attach(engine, "loss")
    loss = engine.run(batches).metrics["loss"]
    difference = np.concatenate([(x - y).double().numpy() for x, y in batches])
    assert isinstance(loss, float)
    assert loss == pytest.approx((difference**2).mean(), rel=1e-6)


def test_sums_have_64_bits():
    """The 64-bit sum keeps small losses that a 32-bit sum would lose."""
    loss = Loss(lambda y_pred, y: y_pred.mean())
    loss.update((torch.tensor([2.0**24]), torch.zeros(1)))
    for _ in range(4):
        loss.update((torch.tensor([1.0]), torch.zeros(1)))
    assert loss.compute() == (2**24 + 4) / 5


def test_keyword_arguments_for_the_loss():
    """A third element, or the key criterion_kwargs, is passed to loss_fn as keyword arguments (M-083)."""
    y_pred, y, weight = torch.randn(4, 3), torch.tensor([0, 1, 2, 2]), torch.tensor([1.0, 2.0, 3.0])
    expected = cross_entropy(y_pred, y, weight=weight).item()
    for output in (
        (y_pred, y, {"weight": weight}),
        {"y_pred": y_pred, "y": y, "criterion_kwargs": {"weight": weight}},
    ):
        engine = Engine(lambda engine, batch: batch)
        Loss(cross_entropy).attach(engine, "loss")
        assert engine.run([output]).metrics["loss"] == pytest.approx(expected)


def test_mappings_need_criterion_kwargs():
    """A mapping without criterion_kwargs is refused with a remedy (M-008)."""
    engine = Engine(lambda engine, batch: batch)
    Loss(mse_loss).attach(engine, "loss")
    with pytest.raises(
        ValueError,
        match=r"but the output has only .*; add 'criterion_kwargs' to the output, or return a tuple from output_transform",
    ):
        engine.run([{"y_pred": torch.zeros(1), "y": torch.zeros(1)}])


def test_custom_batch_size():
    """batch_size computes the number of examples of a target (M-083)."""
    loss = Loss(mse_loss, batch_size=lambda y: y.numel())
    loss.update((torch.ones(2, 3), torch.zeros(2, 3)))
    loss.update((torch.full((1, 2), 5.0), torch.zeros(1, 2)))
    assert loss.compute() == (6 + 50) / 8


def loss_over(targets, **options):
    """Return the loss over batches whose own losses are 2 and 18; the first has 4 examples, the second has 1."""
    values = iter([2.0, 18.0])
    engine = Engine(lambda engine, y: (torch.zeros(()), y))
    Loss(lambda y_pred, y: torch.tensor(next(values)), **options).attach(engine, "loss")
    return engine.run(targets).metrics["loss"]


@pytest.mark.parametrize(
    "make",
    [
        torch.zeros,
        lambda n: np.zeros((n, 3)),
        lambda n: {"class": torch.zeros(n)},
        lambda n: {"class": torch.zeros(n), "box": torch.zeros(n, 4), "weights": torch.zeros(7)},
        lambda n: (torch.zeros(n), torch.zeros(n, 4)),
        lambda n: [torch.zeros(n, 2), torch.zeros(n), torch.tensor(3.0)],
        lambda n: (torch.zeros(n), "name", 3),
        lambda n: {"meta": "name", "heads": {"a": [torch.zeros(n, 5), torch.zeros(n)]}},
        lambda n: [{"boxes": torch.zeros(3, 4), "labels": torch.zeros(3)} for _ in range(n)],
        lambda n: torch.nested.nested_tensor([torch.zeros(i + 1) for i in range(n)]),
        lambda n: torch.eye(n).to_sparse(),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_structured_targets(make):
    """The size of a batch is the first dimension of the first tensor in the target, whatever its structure (M-083)."""
    assert loss_over([make(4), make(1)], skip_unrolling=True) == (4 * 2.0 + 18.0) / 5 == 5.2


@pytest.mark.parametrize("convert", [tuple, list])
def test_several_heads(convert):
    """The predictions and targets of several heads are passed to loss_fn together (M-009, M-083)."""
    engine = Engine(lambda engine, n: ((torch.ones(n), torch.full((n, 2), 6.0 / n)), convert(zeros(n))))

    def zeros(n):
        return [torch.zeros(n), torch.zeros(n, 2)]

    def both(y_pred, y):
        return mse_loss(y_pred[0], y[0]) + mse_loss(y_pred[1], y[1])

    Loss(both).attach(engine, "loss")
    assert engine.run([4, 1]).metrics["loss"] == (4 * (1 + 1.5**2) + 1 + 6**2) / 5


@pytest.mark.parametrize(
    ("target", "error", "found"),
    [
        ("text", TypeError, "a value of type str without tensors"),
        (["text", "text"], TypeError, "a value of type list without tensors"),
        ({"a": 3}, TypeError, "a value of type dict without tensors"),
        ([], TypeError, "a value of type list without tensors"),
        (torch.tensor(1.0), ValueError, "a tensor without dimensions"),
        ({"a": torch.tensor(1.0), "b": torch.zeros(4)}, ValueError, "a tensor without dimensions"),
        (
            (torch.zeros(3), torch.zeros(5)),
            ValueError,
            r"a tuple of tensors whose first dimensions have the sizes \[3, 5\]",
        ),
        (
            torch.nn.utils.rnn.pack_sequence([torch.zeros(3), torch.zeros(2)]),
            TypeError,
            "a PackedSequence, whose first dimension counts time steps, not examples",
        ),
    ],
)
def test_targets_that_cannot_be_counted(target, error, found):
    """A target whose examples cannot be counted is refused, and batch_size= is the remedy (M-083)."""
    with pytest.raises(
        error,
        match=f"cannot determine the batch size from the target y, because y is {found}. Pass a function",
    ):
        loss_over([target], skip_unrolling=True)
    assert loss_over([target], skip_unrolling=True, batch_size=lambda _: 4) == 2.0


def test_sums_are_refused():
    """A loss that sums over the batch is refused when the metric is created (M-083)."""
    with pytest.raises(ValueError, match="MSELoss has reduction='sum'; set reduction='mean'"):
        Loss(torch.nn.MSELoss(reduction="sum"))
    one_per_batch = Loss(torch.nn.MSELoss(reduction="sum"), batch_size=lambda _: 1)
    one_per_batch.update((torch.ones(3), torch.zeros(3)))
    assert one_per_batch.compute() == 3.0


def test_empty_batches_are_ignored():
    """An empty batch, whose loss is NaN, is ignored."""
    loss = Loss(mse_loss)
    loss.update((torch.zeros(0), torch.zeros(0)))
    with pytest.raises(NotComputableError, match="Loss has received no examples"):
        loss.compute()
    loss.update((torch.ones(2), torch.zeros(2)))
    assert loss.compute() == 1.0


def test_no_gradients_are_kept():
    """The sum has no gradients, even outside no_grad."""
    weight = torch.ones(2, requires_grad=True)
    loss = Loss(mse_loss)
    loss.update((weight * 2, torch.zeros(2)))
    assert isinstance(loss.compute(), float)
    assert not getattr(loss._sum, "requires_grad", False)


def test_loss_must_be_a_mean():
    """A loss that is not a scalar tensor is refused with its shape or type (M-083)."""
    batch = torch.ones(3), torch.zeros(3)
    with pytest.raises(ValueError, match=r"got Tensor of shape \(3,\); .*reduction='mean'"):
        Loss(lambda x, y: x - y).update(batch)
    with pytest.raises(ValueError, match="as a scalar tensor, got float"):
        Loss(lambda x, y: 0.5).update(batch)


def test_functions_are_checked():
    """loss_fn and batch_size must be callable."""
    with pytest.raises(TypeError, match="loss_fn must be a function, got 3"):
        Loss(3)
    with pytest.raises(TypeError, match="batch_size must be a function, got 32"):
        Loss(mse_loss, batch_size=32)


def test_two_ranks_with_uneven_batches(run_ranks):
    """Two ranks with different numbers of examples return the mean of all (D2)."""

    def check(rank):
        import torch

        from glowplug import Engine
        from glowplug_metrics import Loss

        values = torch.tensor([1.0, 2.0, 6.0, 8.0, 16.0, 32.0, 64.0])
        own = values[:5] if rank == 0 else values[5:]
        engine = Engine(lambda engine, batch: (batch, torch.zeros_like(batch)))
        Loss(torch.nn.functional.l1_loss).attach(engine, "loss")
        return engine.run(own.split(3), max_epochs=2).metrics["loss"]

    assert run_ranks(check) == [129 / 7] * 2
