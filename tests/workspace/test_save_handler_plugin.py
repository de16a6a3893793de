"""`ModelCheckpoint("acme://…")` with a save handler from an installed plugin."""

import json

import pytest

# Stores checkpoints in a folder that the address names, and imports only torch and the standard library.
SAVER = """
import os
from pathlib import Path

import torch


class AcmeSaver:
    def __init__(self, uri):
        self.folder = Path(os.environ["ACME_ROOT"], uri.removeprefix("acme://"))
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, checkpoint, filename, metadata=None):
        torch.save(checkpoint, self.folder / filename)

    def load(self, filename):
        return torch.load(self.folder / filename, weights_only=True)

    def list(self):
        files = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return [path.name for path in files]

    def remove(self, filename):
        (self.folder / filename).unlink(missing_ok=True)

    def locate(self, filename):
        return f"acme://{self.folder.name}/{filename}"
"""
PLUGIN = """
GLOWPLUG_API = 1


def glowplug_save_handler(uri):
    if not uri.startswith("acme://"):
        return None
    from acme_store.handler import AcmeSaver

    return AcmeSaver(uri)
"""

# Trains three epochs, keeps the two latest checkpoints, and loads the state of the trainer into a second trainer.
SCRIPT = """
import json, sys
from torch import nn

from glowplug import Engine
from glowplug.handlers import ModelCheckpoint

model = nn.Linear(1, 1)
def train():
    trainer = Engine(lambda engine, batch: None)
    to_save = {"model": model, "trainer": trainer}
    checkpoint = ModelCheckpoint(sys.argv[1], n_saved=2, require_empty=False, to_save=to_save)
    trainer.attach(checkpoint)
    return trainer, checkpoint

trainer, checkpoint = train()
trainer.run([1, 2], max_epochs=3)
resumed, again = train()
resumed.load_state_dict(trainer.state_dict())
kept = [item.filename for item in again.saved]
newest = ModelCheckpoint.latest(sys.argv[1])
reloaded = Engine(lambda engine, batch: None)
ModelCheckpoint.load_objects({"trainer": reloaded}, newest)
reloaded.run([1, 2], max_epochs=3)
again.reload_objects({"model": model, "trainer": resumed}, global_step=4)
print(json.dumps([newest, checkpoint.last_checkpoint, kept]))
"""


@pytest.fixture(scope="module")
def installed(wheelhouse):
    """Install a plugin that handles acme:// addresses, and one whose hook raises."""
    wheelhouse.add("acme-store", PLUGIN, handler=SAVER)
    wheelhouse.add(
        "acme-broken", "GLOWPLUG_API = 1\ndef glowplug_save_handler(uri): raise OSError('no licence')"
    )
    wheelhouse.install()
    return wheelhouse


def save_to(installed, address, tmp_path, plugins):
    """Run the script in a new process, with checkpoints at this address and these plugins allowed."""
    return installed.run(
        "-c",
        SCRIPT,
        address,
        GLOWPLUG_PLUGINS=f"model-checkpoint,{plugins}",
        ACME_ROOT=str(tmp_path),
    )


def test_installed_plugin_stores_and_removes(installed, tmp_path):
    """The plugin's save handler saves, removes, lists and loads checkpoints in a run and in its continuation."""
    ended = save_to(installed, "acme://run-7", tmp_path, "acme-store")
    assert ended.returncode == 0, ended.stderr
    newest, last, resumed = json.loads(ended.stdout)
    names = ["checkpoint_4.pt", "checkpoint_6.pt"]
    assert sorted(path.name for path in (tmp_path / "run-7").iterdir()) == names
    assert resumed == names
    assert newest == last == "acme://run-7/checkpoint_6.pt"


def test_address_that_nobody_answers_for(installed, tmp_path):
    """The error names the scheme, the remedy, and the unavailable plugins with the reason."""
    ended = save_to(installed, "acme://run-7", tmp_path, "acme-broken")
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("glowplug.exceptions.PluginNotFoundError: no plugin handles acme:// addresses")
    assert "got 'acme://run-7'" in last
    assert "that implements glowplug_save_handler(uri) for this scheme" in last
    assert "acme-broken (the hook glowplug_save_handler() failed: OSError: no licence)" in last
    assert "acme-store (GLOWPLUG_PLUGINS=" in last
    assert not list(tmp_path.iterdir())
