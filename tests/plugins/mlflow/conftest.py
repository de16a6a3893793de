"""Fixtures of the MLflow tests: real servers with databases in temporary folders."""

import os
import shutil
from pathlib import Path

import pytest
from mlflow_server import Server, create_database


def pytest_collection_modifyitems(items):
    """Ignore a deprecation warning of MLflow's database library in the tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server shared by the tests that do not stop it."""
    server = Server(tmp_path_factory.mktemp("mlflow"))
    yield server.start()
    server.kill()


@pytest.fixture
def own_server(tmp_path):
    """A server for one test, which may start and kill it."""
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables, which take seconds to create. Tests write to copies of it."""
    return create_database(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def database(empty_database, tmp_path):
    """A new database with MLflow's tables."""
    return Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))


@pytest.fixture(autouse=True)
def clean_mlflow(monkeypatch, tmp_path):
    """Isolate the folder, settings and runs of each test."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.tracking.fluent._active_experiment_id = None
