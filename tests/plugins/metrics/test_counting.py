"""Counting functions as used on accelerators: with weights instead of checks."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from glowplug_metrics.counting import Labels, class_counts, confusions, labels_of, matrix_counts

SEEDS = st.integers(0, 10**6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9), st.integers(2, 5), SEEDS)
def test_weights_give_the_same_counts(size, classes, seed):
    """Counting with weights, as on an accelerator, equals counting valid targets only."""
    random = torch.Generator().manual_seed(seed)
    predicted = torch.randint(classes, (size,), generator=random)
    target = torch.randint(-2, classes + 2, (size,), generator=random)
    valid = (target >= 0) & (target < classes)
    given_all = labels_of(predicted, target.double(), classes)  # floats are not checked either
    valid_alone = labels_of(predicted[valid], target[valid], classes)
    assert given_all.weight is not None
    assert valid_alone.weight is None
    assert given_all.num_invalid == (~valid).sum()
    matrix = confusions(valid_alone, classes)
    assert torch.equal(confusions(given_all, classes), matrix)
    for labels in (given_all, valid_alone):
        assert torch.equal(class_counts(labels, classes), matrix_counts(matrix))


@pytest.mark.parametrize("target", [[float("nan"), 0.0], [0.5, 0.0], [float("inf"), 0.0]])
def test_fractional_targets_are_invalid(target):
    """Fractional targets are invalid and not rounded."""
    labels = labels_of(torch.tensor([0, 0]), torch.tensor(target), classes=2)
    assert isinstance(labels, Labels)
    assert (labels.num_invalid, labels.weight.tolist()) == (1, [0, 1])
