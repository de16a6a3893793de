"""Checkpoints that are stored as artifacts of a logger."""

import pytest
from mlflow import MlflowClient
from mlflow_server import create_database
from torch import nn

from glowplug import Engine, Events
from glowplug_mlflow import MLflowLogger
from glowplug_model_checkpoint import ModelCheckpoint


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
@pytest.mark.parametrize("async_save", [False, True])
def test_checkpoints_reach_mlflow(tmp_path, monkeypatch, async_save):
    """MLflow stores each checkpoint, also those that the handler has removed, and each of them loads (C1, L2)."""
    # MLflow stores artifacts beside the database's folder.
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{create_database(tmp_path)}"
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.zero_()

    def step(engine, batch):
        model.weight.data.add_(1.0)

    trainer = Engine(step)
    with MLflowLogger(uri, timeout=60) as logger:
        checkpoint = ModelCheckpoint(
            tmp_path / "checkpoints", to_save={"model": model}, async_save=async_save, also_to=logger
        )
        checkpoint.attach(trainer, Events.EPOCH_COMPLETED)
        trainer.run([0] * 5, max_epochs=3)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["model_15.pt"]
    client, weights = MlflowClient(uri), {}
    for file in client.list_artifacts(logger.run_id):
        ModelCheckpoint.load_objects({"model": model}, client.download_artifacts(logger.run_id, file.path))
        weights[file.path] = model.weight.item()
    assert weights == {"model_5.pt": 5.0, "model_10.pt": 10.0, "model_15.pt": 15.0}
