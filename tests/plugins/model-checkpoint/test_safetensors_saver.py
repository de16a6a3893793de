"""Tests of checkpoints in the safetensors format, read and written beside the library."""

import os
import random
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file
from torch import nn

from glowplug import Engine
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import VerifyingSaveHandler
from glowplug_model_checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    KeepBest,
    KeepLast,
    ModelCheckpoint,
    SafetensorsSaver,
)

METADATA = {"step": 7, "scores": {"accuracy": 0.5}}
COUNT = round(float(os.environ.get("GLOWPLUG_CAMPAIGN", "0")) * 1000) or 200
DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    ),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)


class Tied(nn.Module):
    """A model whose output layer has the weights of its embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


def bits(tensor):
    """Return the bytes of a tensor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def test_all_types(tmp_path):
    """Tensors of all types, shapes and strides are equal after loading, with this package and with the library."""
    saver = SafetensorsSaver(tmp_path)
    content = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    content |= {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4), "strided": torch.arange(9.0)[::2]}
    content |= {"transposed": torch.arange(6.0).reshape(2, 3).T, "größe": torch.ones(1)}
    saver.save(content, "a.safetensors", METADATA)
    assert saver.metadata("a.safetensors") == METADATA
    assert saver.verify("a.safetensors")
    library = load_file(tmp_path / "a.safetensors")
    own = saver.load("a.safetensors")
    assert set(own) == set(library) == set(content)
    for name, tensor in content.items():
        for loaded in (own[name], library[name]):
            assert (loaded.dtype, loaded.shape, bits(loaded)) == (tensor.dtype, tensor.shape, bits(tensor)), (
                name
            )
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"


def test_run_saves_finds_and_resumes(address, model):
    """A run saves weights to any location, which latest, best, restore, resume and load_objects read."""
    trainer = Engine(lambda engine, batch: None)
    policy = KeepLast(1) | KeepBest(1, by=lambda engine: -engine.state.epoch, name="score")
    checkpoint = Checkpoint({"model": model}, SafetensorsSaver(address), keep=policy)
    checkpoint.attach(trainer)
    trainer.run([1, 2], max_epochs=3)
    saver = SafetensorsSaver(address)
    assert isinstance(saver, VerifyingSaveHandler)
    names = ["model_epoch=1_step=2_score=-1.safetensors", "model_epoch=3_step=6_score=-3.safetensors"]
    assert sorted(saver.list()) == names
    assert str(ModelCheckpoint.best(saver)).endswith(names[0])
    newest = ModelCheckpoint.latest(saver)
    assert str(newest).endswith(names[1])
    for load in (
        lambda fresh: ModelCheckpoint.load_objects({"model": fresh}, newest),
        lambda fresh: checkpoint.restore({"model": fresh}, "best"),
        lambda fresh: Checkpoint({"model": fresh}, saver, resume="auto").attach(Engine(lambda *_: None)),
    ):
        fresh = nn.Linear(2, 1)
        load(fresh)
        assert torch.equal(fresh.weight, model.weight)
    with pytest.raises(ValueError, match="already contains checkpoints: model_epoch=1"):
        SafetensorsSaver(address, require_empty=True)


def test_nested_mappings(tmp_path):
    """Names of nested mappings are joined with dots in the file, and the checkpoint is nested again after loading."""
    saver = SafetensorsSaver(tmp_path)
    content = {"a": {"x.y": torch.ones(2)}, "b": {"x": {"y": torch.zeros(1)}}, "relu": {}}
    saver.save(content, "a.safetensors")
    assert set(load_file(tmp_path / "a.safetensors")) == {"a.x.y", "b.x.y"}
    loaded = saver.load("a.safetensors")
    assert torch.equal(loaded["a"]["x.y"], content["a"]["x.y"])
    assert torch.equal(loaded["b"]["x"]["y"], content["b"]["x"]["y"])
    assert (set(loaded), loaded["relu"]) == ({"a", "b", "relu"}, {})
    saver.save({}, "empty.safetensors")
    assert saver.load("empty.safetensors") == {}
    with pytest.raises(ValueError, match=r"the name 'a\.b' would occur twice"):
        saver.save({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, "b.safetensors")


def test_tied_weights(fake, tmp_path):
    """Tied weights are stored once; the library and this package load both names of them."""
    torch.manual_seed(0)
    model = Tied()
    saver = SafetensorsSaver(tmp_path)
    Checkpoint({"model": model}, saver)(fake)
    [name] = saver.list()
    assert set(load_file(tmp_path / name)) == {"embedding.weight"}
    for load in (
        lambda fresh: load_model(fresh, tmp_path / name),
        lambda fresh: ModelCheckpoint.load_objects({"model": fresh}, tmp_path / name),
    ):
        fresh = Tied()
        load(fresh)
        assert torch.equal(fresh.head.weight, model.embedding.weight)
        assert fresh.head.weight is fresh.embedding.weight


def test_views_of_one_memory(tmp_path):
    """Tensors that overlap without being the same are stored as they are."""
    memory = torch.arange(6.0)
    content = {"all": memory, "first": memory[:3], "second": memory[2:5]}
    saver = SafetensorsSaver(tmp_path)
    saver.save(content, "a.safetensors")
    loaded = saver.load("a.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in content.items())


class Sharded(torch.Tensor):
    """A tensor of a subclass, whose memory may be only a part of it."""


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"model": {"w": torch.ones(1)}, "trainer": {"epoch": 3}}, r"has int at 'trainer\.epoch'"),
        ({"models": [torch.ones(1)]}, "has list at 'models'"),
        ({0: torch.ones(1)}, "keys that are no strings"),
        (3, "has int as its content"),
        ({"w": torch.ones(2).to_sparse()}, "'w' is sparse"),
        ({"w": torch.empty(2, device="meta")}, "'w' is sparse, quantized or without data"),
        ({"w": torch.ones(2, dtype=torch.complex128)}, r"'w' is of the type torch\.complex128"),
        ({"w": torch.ones(2).as_subclass(Sharded)}, "'w' is a Sharded"),
        (
            {"__metadata__": torch.ones(2)},
            "'__metadata__' would occur twice in the safetensors file or is reserved",
        ),
    ],
)
def test_other_content_is_refused(tmp_path, content, problem):
    """Anything but dense tensors in mappings is refused when it is saved, with its place; the former file stays."""
    saver = SafetensorsSaver(tmp_path)
    saver.save({"w": torch.ones(1)}, "a.safetensors")
    with pytest.raises(ValueError, match=f"'a.safetensors' was not saved because .*{problem}"):
        saver.save(content, "a.safetensors")
    assert torch.equal(saver.load("a.safetensors")["w"], torch.ones(1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("digest", ["xxh3_128", "sha256"])
def test_damage(tmp_path, digest):
    """Each flipped bit and each truncation is detected, wherever it is in the file (C3)."""
    seed = int(os.environ.get("GLOWPLUG_SEED") or random.randrange(1_000_000))
    print(f"repeat with GLOWPLUG_SEED={seed}")
    chance = random.Random(seed)
    saver = SafetensorsSaver(tmp_path, digest=digest, read_back=True)
    saver.save({"a": torch.arange(500.0), "b": torch.ones(3), "c": torch.empty(0)}, "a.safetensors", METADATA)
    path = tmp_path / "a.safetensors"
    content, missed = path.read_bytes(), []
    header = int.from_bytes(content[:8], "little") + 8
    positions = [*chance.choices(range(len(content)), k=COUNT), *chance.choices(range(header), k=COUNT)]
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1 << chance.randrange(8)
        for each in (bytes(damaged), content[:position]):
            path.write_bytes(each)
            try:
                saver.verify("a.safetensors")
            except DamagedCheckpointError:
                continue
            missed.append(position)
    print(f"C3: {2 * len(positions)} damages of a safetensors file ({digest}), {len(missed)} missed")
    assert missed == []
    damaged = bytearray(content)
    damaged[header + 4] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedCheckpointError, match="damaged: 'a'"):
        saver.load("a.safetensors")


def test_file_of_the_library(tmp_path):
    """A file that the library wrote loads with one warning that it is unverified; it is no checkpoint of a run."""
    weights = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    saver = SafetensorsSaver(tmp_path)
    assert (saver.metadata("model.safetensors"), saver.verify("model.safetensors")) == (None, False)
    model = nn.Linear(2, 1)
    with pytest.warns(GlowplugWarning, match="has no manifest") as warned:
        ModelCheckpoint.load_objects({"model": model}, tmp_path / "model.safetensors")
    assert len(warned) == 1
    assert torch.equal(model.weight, weights["weight"])
    assert ModelCheckpoint.latest(saver) is None


def test_storage_options_need_an_address(tmp_path):
    """Options of a driver are refused for a folder."""
    with pytest.raises(TypeError, match="storage_options are only supported for addresses"):
        SafetensorsSaver(tmp_path, storage_options={"key": "value"})


def test_missing_library(tmp_path, monkeypatch):
    """Without safetensors, loading raises an error that says what to install."""
    saver = SafetensorsSaver(tmp_path)
    saver.save({"w": torch.ones(1)}, "a.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"pip install 'glowplug-model-checkpoint\[safetensors\]'"):
        saver.load("a.safetensors")
