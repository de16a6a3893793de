"""Shared fixtures of the checkpoint tests."""

import uuid

import fsspec
import pytest
import torch
from forkserver import preload
from s3_server import s3_server  # noqa: F401 - a fixture
from torch import nn

from glowplug.testing import FakeEngine

preload("torch.distributed.fsdp", "torch.distributed.checkpoint.state_dict")


@pytest.fixture
def fake():
    """An engine at iteration 6 of epoch 3."""
    engine = FakeEngine()
    engine.state.iteration, engine.state.epoch = 6, 3
    return engine


@pytest.fixture
def model():
    """A small model."""
    torch.manual_seed(0)
    return nn.Linear(2, 1)


@pytest.fixture
def names():
    """A function that lists the files of a folder."""
    return lambda folder: sorted(path.name for path in folder.iterdir())


@pytest.fixture
def memory_store():
    """A save handler without metadata, which keeps checkpoints in memory."""

    class MemoryStore:
        def __init__(self):
            self.files = {}

        def save(self, checkpoint, filename, metadata=None):
            self.files[filename] = checkpoint

        def load(self, filename):
            return self.files[filename]

        def list(self):
            return list(self.files)

        def remove(self, filename):
            del self.files[filename]

        def locate(self, filename):
            return f"acme://{filename}"

    return MemoryStore()


@pytest.fixture
def assert_equal():
    """A function that asserts that two trees of tensors and values are equal, bit by bit."""

    def compare(first, second):
        assert type(first) is type(second)
        if isinstance(first, dict):
            assert list(first) == list(second)
            for key in first:
                compare(first[key], second[key])
        elif isinstance(first, (list, tuple)):
            assert len(first) == len(second)
            for each, other in zip(first, second, strict=True):
                compare(each, other)
        elif isinstance(first, torch.Tensor):
            assert torch.equal(first, second)
        else:
            assert first == second

    return compare


@pytest.fixture(params=["memory", "file", "s3"])
def address(request, tmp_path, monkeypatch):
    """The address of an empty place: in memory, a folder, or on an S3 server."""
    if request.param == "file":
        return f"file://{tmp_path}/run"
    name = uuid.uuid4().hex
    if request.param == "memory":
        return f"memory://{name}/run"
    server = request.getfixturevalue("s3_server")
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    # Drivers read the environment once, and fsspec keeps them.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    return f"s3://runs/{name}/run"
