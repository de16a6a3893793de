"""Tests of the names of weights: torch.compile, DataParallel, DistributedDataParallel, in all combinations."""

import itertools
from collections import OrderedDict

import pytest
import torch
from torch import nn

from glowplug_model_checkpoint import Checkpoint, ModelCheckpoint
from glowplug_model_checkpoint.weights import all_finite, unwrapped, weights


class Net(nn.Module):
    """Has submodules, one of which is called ``module``."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.module = nn.Linear(3, 1)

    def forward(self, x):
        return self.module(self.encoder(x))


def compiled(model):
    """Return a model in torch.compile; nothing is compiled before it is called."""
    return torch.compile(model, backend="eager")


def inner_compiled(model):
    """Compile a submodule only."""
    model.encoder = compiled(model.encoder)
    return model


def inner_parallel(model):
    """Wrap a submodule only, whose name is that of wrappers."""
    model.module = nn.DataParallel(model.module)
    return model


WRAPPERS = {
    "plain": lambda model: model,
    "compiled": compiled,
    "parallel": nn.DataParallel,
    "compiled parallel": lambda model: compiled(nn.DataParallel(model)),
    "parallel compiled": lambda model: nn.DataParallel(compiled(model)),
    "inner compiled": inner_compiled,
    "inner parallel": inner_parallel,
    "everything": lambda model: compiled(nn.DataParallel(inner_parallel(inner_compiled(model)))),
}


def net(seed):
    """Return a model with random weights."""
    torch.manual_seed(seed)
    model = Net()
    model.encoder[1].running_mean.normal_()
    return model


def values(model):
    """Return the weights of a model, by their names without wrappers."""
    return dict(weights(model))


def assert_equal(first, second):
    """Assert that two models have the same names and weights."""
    first, second = values(first), values(second)
    assert first.keys() == second.keys() == net(0).state_dict().keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("saved_as", "loaded_as"), list(itertools.product(WRAPPERS, WRAPPERS)))
def test_all_combinations(fake, tmp_path, saved_as, loaded_as):
    """What was saved in any wrapper has plain names and loads strictly into any other wrapper."""
    source = WRAPPERS[saved_as](net(1))
    checkpoint = Checkpoint({"model": source}, tmp_path)
    checkpoint(fake)
    assert list(torch.load(checkpoint.last_checkpoint, weights_only=True)) == list(net(0).state_dict())
    target = WRAPPERS[loaded_as](net(2))
    Checkpoint.load_objects({"model": target}, checkpoint.last_checkpoint)
    assert_equal(source, target)


@pytest.mark.parametrize(("saved_as", "loaded_as"), list(itertools.product(WRAPPERS, WRAPPERS)))
def test_states_of_other_tools(saved_as, loaded_as):
    """A state that still has the names of wrappers, as plain torch.save writes it, loads into any wrapper."""
    source = WRAPPERS[saved_as](net(1))
    target = WRAPPERS[loaded_as](net(2))
    Checkpoint.load_objects({"model": target}, {"model": source.state_dict()})
    assert_equal(source, target)


def test_saved_state_loads_without_glowplug(fake, tmp_path):
    """The saved weights of a compiled model load into the plain model with plain torch, versions included."""
    checkpoint = Checkpoint({"model": WRAPPERS["everything"](net(1))}, tmp_path)
    checkpoint(fake)
    state = torch.load(checkpoint.last_checkpoint, weights_only=True)
    fresh = net(2)
    fresh.load_state_dict(state)
    assert isinstance(state, OrderedDict)
    assert state._metadata == fresh.state_dict()._metadata


class Ambiguous(nn.Module):
    """Has weights whose names differ by ``module.`` only."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.module = nn.Module()
        self.module.weight = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize("wrap", [lambda model: model, compiled, nn.DataParallel])
@pytest.mark.parametrize("other", [lambda model: model, compiled, nn.DataParallel])
def test_own_module_is_not_damaged(wrap, other):
    """A model with its own submodule ``module`` and an equal name beside it keeps both apart."""
    target = other(Ambiguous())
    inner = unwrapped(target)
    nn.init.constant_(inner.weight, 5)
    nn.init.constant_(inner.module.weight, 6)
    source = wrap(Ambiguous())
    assert list(weights(source)) == ["weight", "module.weight"]
    for state in (weights(source), source.state_dict()):
        Checkpoint.load_objects({"model": target}, {"model": state})
        assert (inner.weight.tolist(), inner.module.weight.tolist()) == ([0.0, 0.0], [1.0, 1.0])


def test_averaged_model():
    """An averaged model, whose class is no wrapper but has a ``module``, is saved and loaded unchanged."""
    averaged = torch.optim.swa_utils.AveragedModel(net(1))
    assert list(weights(averaged)) == list(averaged.state_dict())
    fresh = torch.optim.swa_utils.AveragedModel(net(2))
    Checkpoint.load_objects({"model": fresh}, {"model": weights(averaged)})
    assert torch.equal(fresh.module.module.weight, averaged.module.module.weight)


def test_strict_loading_still_reports():
    """Names that no wrapper explains are still errors, and strict=False still ignores them."""
    state = {**net(1).state_dict(), "extra": torch.ones(1)}
    with pytest.raises(RuntimeError, match="extra"):
        Checkpoint.load_objects({"model": net(2)}, {"model": state})
    target = compiled(net(2))
    Checkpoint.load_objects({"model": target}, {"model": state}, strict=False)
    assert_equal(target, net(1))
    del state["module.weight"]
    with pytest.raises(RuntimeError, match=r"module\.weight"):
        Checkpoint.load_objects({"model": net(2)}, {"model": state})


class TestObjectThatIsMissing:
    @pytest.fixture
    def file(self, tmp_path):
        """A checkpoint with a model and its optimizer."""
        model = net(1)
        checkpoint = ModelCheckpoint(
            tmp_path, to_save={"model": model, "optimizer": torch.optim.Adam(model.parameters())}
        )
        from glowplug.testing import FakeEngine

        checkpoint(FakeEngine())
        return checkpoint.last_checkpoint

    @pytest.mark.parametrize("kind", ["file", "mapping"])
    @pytest.mark.parametrize("options", [{}, {"strict": False}])
    @pytest.mark.parametrize("what", ["scheduler", "model", "optimizer"])
    def test_other_name(self, file, kind, options, what):
        """An object that the checkpoint does not have is a ValueError that lists the names in the checkpoint; nothing is loaded."""
        model = net(2)
        optimizer = torch.optim.Adam(model.parameters())
        thing = {
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1),
            "model": model,
            "optimizer": optimizer,
        }[what]
        before = str(thing.state_dict())
        source = file if kind == "file" else torch.load(file, weights_only=True)
        with pytest.raises(ValueError, match=r"\['other'\] is missing; found \['model', 'optimizer'\]"):
            Checkpoint.load_objects({"other": thing}, source, **options)
        assert str(thing.state_dict()) == before

    @pytest.mark.parametrize("options", [{}, {"strict": False}])
    def test_state_of_another_object(self, file, options):
        """The weights of another model are a ValueError that names some of both, also with strict=False."""
        other = nn.Sequential(nn.Linear(2, 2))
        with pytest.raises(
            ValueError, match=r"has no weight of the model to load: found 'encoder.*model has '0.weight'"
        ):
            Checkpoint.load_objects({"model": other}, file, **options)
        with pytest.raises(ValueError, match=r"\['model'\] has no weight"):
            Checkpoint.load_objects({"model": other}, {"model": {}}, **options)

    def test_bare_state(self, fake, tmp_path):
        """The bare state of a single object loads under any name, but only into an object that it fits."""
        checkpoint = Checkpoint({"net": net(1)}, tmp_path)
        checkpoint(fake)
        target = compiled(net(2))
        Checkpoint.load_objects({"whatever": target}, checkpoint.last_checkpoint)
        assert_equal(target, net(1))
        scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net(2).parameters(), 0.1), 1)
        with pytest.raises(ValueError, match="is missing; found"):
            Checkpoint.load_objects({"scheduler": scheduler}, checkpoint.last_checkpoint)


def test_all_finite_dtypes():
    """Weights of all floating types are scanned; integers, empty weights and buffers are not."""
    model = nn.Module()
    for number, dtype in enumerate((torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn)):
        weight = torch.ones(3).to(dtype)
        setattr(model, f"weight_{number}", nn.Parameter(weight, requires_grad=False))
        assert all_finite([model])
        weight[1] = float("nan")
        assert not all_finite([model])
        weight[1] = 1
    model.integers = nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)
    model.empty = nn.Parameter(torch.empty(0))
    model.register_buffer("mask", torch.full((2,), float("-inf")))
    assert all_finite([model])
