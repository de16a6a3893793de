"""Tests of addresses and custom save handlers."""

import pytest

from glowplug.exceptions import PluginNotFoundError
from glowplug.plugins import Registry, use_registry
from glowplug.typing import SaveHandler
from glowplug_model_checkpoint import Checkpoint, DiskSaver, ModelCheckpoint


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder and a registry without plugins."""
    monkeypatch.chdir(tmp_path)
    with use_registry(Registry([])):
        yield tmp_path


@pytest.mark.parametrize("make", [ModelCheckpoint, lambda address: Checkpoint({}, address)])
@pytest.mark.parametrize("address", ["s3://bucket/run", "file:///tmp/run", "hf+https://hub/run"])
def test_unknown_scheme(elsewhere, make, address):
    """An unknown scheme raises an error with scheme and address, and creates no folder."""
    with pytest.raises(
        PluginNotFoundError,
        match=f"no plugin handles {address.partition(':')[0]}:// addresses: got '{address}'".replace(
            "+", r"\+"
        ),
    ):
        make(address)
    assert list(elsewhere.iterdir()) == []


def test_torch_save_options_are_refused():
    """Options of torch.save are refused for an address."""
    with pytest.raises(
        TypeError, match=r"torch\.save options are only supported for folders, .*; remove pickle_protocol"
    ):
        ModelCheckpoint("s3://bucket/run", pickle_protocol=4)


@pytest.mark.parametrize("folder", ["C://runs", "runs//today", "runs"])
def test_paths_are_not_addresses(elsewhere, folder):
    """Drive letters and double slashes do not make a path an address."""
    assert isinstance(ModelCheckpoint(folder).save_handler, DiskSaver)
    assert (elsewhere / folder).is_dir()


def test_save_handler_needs_no_base_class(fake, model, memory_store):
    """A save handler without a base class can save, list, load, remove and locate; a function only saves."""
    store, written = memory_store, []
    assert isinstance(store, SaveHandler)
    assert not isinstance(written.append, SaveHandler)
    kept = Checkpoint({"model": model}, store)
    listed = Checkpoint({"model": model}, lambda checkpoint, filename: written.append(filename))
    for fake.state.iteration in (1, 2):
        kept(fake)
        listed(fake)
    assert list(store.files) == ["model_2.pt"]
    assert kept.last_checkpoint == "acme://model_2.pt"
    assert ModelCheckpoint.latest(store) == "acme://model_2.pt"
    kept.reload_objects({"model": model}, global_step=2)
    resumed = Checkpoint({"model": model}, store)
    resumed.load_state_dict({"_saved": [(1, "model_1.pt"), (2, "model_2.pt")]})
    assert [item.filename for item in resumed.saved] == ["model_2.pt"]
    assert written == ["model_1.pt", "model_2.pt"]
