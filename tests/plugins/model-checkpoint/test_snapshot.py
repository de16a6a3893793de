"""Tests of the copies from which checkpoints are written in the background."""

import copy
from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn

from glowplug_model_checkpoint.snapshot import Snapshot


def taken(snapshot, content):
    """Return a complete copy."""
    staged = snapshot.take(content)
    staged.wait()
    return staged.content


def training():
    """Return a model with tied weights and an optimizer after a step."""
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(4, 3)).sum().backward()
    return model, optimizer


def test_copy_does_not_change_with_the_state(assert_equal):
    """A later step changes neither the weights nor the optimizer state in the copy (C5)."""
    model, optimizer = training()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "parts": [(1, torch.ones(2))]}
    expected = copy.deepcopy(state)
    copied = taken(Snapshot(), state)
    optimizer.step()
    state["parts"][0][1].zero_()
    assert_equal(copied, expected)
    assert not torch.equal(copied["model"]["0.weight"], model[0].weight)


def test_versions_of_modules_are_kept():
    """The copy of a model's state has the versions of its modules, which torch stores beside the weights."""
    model, _ = training()
    copied = taken(Snapshot(), {"model": model.state_dict()})["model"]
    assert type(copied) is OrderedDict
    assert copied._metadata == model.state_dict()._metadata


def test_shared_memory_stays_shared():
    """Tensors that share memory share it in the copy, and the rest of the memory of a view is copied with it."""
    whole = torch.arange(6.0)
    copied = taken(Snapshot(), {"whole": whole, "part": whole[1:5:2], "again": whole})
    assert copied["part"].tolist() == [1.0, 3.0]
    assert copied["part"].untyped_storage().data_ptr() == copied["whole"].untyped_storage().data_ptr()
    copied["whole"][1] = 7.0
    assert copied["part"].tolist() == [7.0, 3.0]
    assert copied["again"].tolist()[1] == 7.0
    assert whole.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_memory_is_used_again():
    """A second copy of the same state allocates no memory; tensors of other sizes get new memory (C5)."""
    snapshot, state = Snapshot(), {"a": torch.ones(1000), "b": torch.ones(10)}
    first = {name: each.data_ptr() for name, each in taken(snapshot, state).items()}
    state["a"].add_(1)
    second = taken(snapshot, state)
    assert {name: each.data_ptr() for name, each in second.items()} == first
    assert second["a"][0] == 2.0
    third = taken(snapshot, {"a": torch.ones(5), "b": torch.ones(10)})
    assert third["a"].tolist() == [1.0] * 5
    assert third["b"].data_ptr() == first["b"]


@pytest.mark.parametrize(
    "make",
    [
        partial(torch.zeros, 0),
        partial(torch.tensor, 3),
        partial(torch.arange, 13, dtype=torch.uint8),
        lambda: torch.ones(2, 3).T,
        lambda: torch.ones(2).expand(3, 2),
        lambda: torch.ones(2, dtype=torch.bfloat16),
        lambda: torch.tensor([1 + 2j, 3j]).conj(),
        lambda: torch.tensor([1 + 2j, 3j]).conj().imag,
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(2, requires_grad=True),
        lambda: nn.Parameter(torch.ones(2)),
        lambda: nn.Parameter(torch.ones(2), requires_grad=False),
        lambda: torch.empty(2, device="meta"),
    ],
)
def test_kinds_of_tensors(make):
    """A copied tensor has the type, layout, strides and values of the original, and shares no memory with it."""
    tensor = make()
    copied = taken(Snapshot(), [tensor])[0]
    assert type(copied) is type(tensor)
    assert (copied.dtype, copied.layout, copied.requires_grad) == (
        tensor.dtype,
        tensor.layout,
        tensor.requires_grad,
    )
    if tensor.layout is torch.strided and not tensor.is_neg():
        assert copied.stride() == tensor.stride()
    if tensor.device.type == "cpu":
        assert torch.equal(copied.to_dense(), tensor.to_dense())
        if tensor.layout is torch.strided and tensor.numel():
            assert copied.data_ptr() != tensor.data_ptr()


def test_other_values_are_copied():
    """Plain values and containers are those of the original, and a change of the original does not reach the copy."""

    class Options(dict):
        pass

    options = Options(lr=0.1)
    options.note = "kept"
    state = {"options": options, "names": ["a"], "set": {1}, 3: None, "bytes": b"x", "pair": (1, "b")}
    copied = taken(Snapshot(), state)
    assert copied == state
    assert (type(copied["options"]), copied["options"].note) == (Options, "kept")
    state["names"].append("b")
    state["set"].add(2)
    options["lr"] = 0.2
    assert (copied["names"], copied["set"], copied["options"]["lr"]) == (["a"], {1}, 0.1)
