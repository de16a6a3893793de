"""Contract tests of ModelCheckpoint, Checkpoint and DiskSaver."""

import pytest
import torch

from glowplug_model_checkpoint import Checkpoint, DiskSaver, ModelCheckpoint
from glowplug_testing import HandlerCase, HandlerContract, SaveHandlerCase, SaveHandlerContract

PLUGIN = "glowplug_model_checkpoint._plugin"


class TestModelCheckpoint(HandlerContract):
    expected_failures = {
        "can_be_attached_or_called": "add_event_handler takes the objects after the handler, as in ignite (H-050)"
    }

    @pytest.fixture
    def case(self, tmp_path):
        """A ModelCheckpoint that keeps the two best."""
        model = torch.nn.Linear(2, 1)
        return HandlerCase(
            make=lambda: ModelCheckpoint(
                tmp_path, "best", score_name="accuracy", n_saved=2, require_empty=False
            ),
            attach=lambda handler, engine: handler.attach(engine, to_save={"model": model}),
            metrics={"accuracy": 0.5},
            seconds_per_event=0.5,
            plugin=PLUGIN,
            heavy=["torch"],
        )


class TestCheckpoint(HandlerContract):
    @pytest.fixture
    def case(self, tmp_path):
        """A Checkpoint that keeps the latest."""
        model = torch.nn.Linear(2, 1)
        return HandlerCase(
            make=lambda: Checkpoint({"model": model}, DiskSaver(tmp_path, require_empty=False)),
            seconds_per_event=0.5,
        )


class TestDiskSaver(SaveHandlerContract):
    @pytest.fixture
    def case(self, tmp_path):
        """A DiskSaver that adds to its folder."""
        folder = tmp_path / "checkpoints"
        return SaveHandlerCase(make=lambda: DiskSaver(folder, require_empty=False), plugin=PLUGIN)
