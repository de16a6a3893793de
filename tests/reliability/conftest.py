"""Fixtures of the tests of reliability.

The environment variable GLOWPLUG_WORKERS is the number of processes that train at the same time; for the others, see
``campaign.py``.
"""

import os
from pathlib import Path

import pytest
from backends import FileBackend, MLflowDatabaseBackend, MLflowServerBackend
from campaign import count, is_campaign, moments, report, seed  # noqa: F401 - fixtures
from forked_jobs import Jobs
from mlflow_server import Server, create_database
from s3_server import s3_server  # noqa: F401 - a fixture

WORKERS = int(os.environ.get("GLOWPLUG_WORKERS", "3"))


def pytest_collection_modifyitems(items):
    """Ignore a deprecation warning of MLflow's database library in the tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"))


@pytest.fixture(scope="session")
def jobs():
    """Processes that fork jobs."""
    jobs = Jobs(WORKERS)
    yield jobs
    jobs.stop()


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
    yield server.start()
    server.kill()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables, which take seconds to create."""
    return create_database(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def backends(request):
    """Return a function that returns the factory of the backends of a kind, and close the backends after the test."""
    made = []

    def factory(kind):
        needs = {"mlflow-server": "server", "mlflow-sqlite": "empty_database"}.get(kind)
        # Here, because fixtures cannot be set up in several threads.
        needed = request.getfixturevalue(needs) if needs else None

        def make(folder):
            if kind == "mlflow-server":
                backend = MLflowServerBackend(needed, str(folder))
            elif kind == "mlflow-sqlite":
                backend = MLflowDatabaseBackend(needed, folder)
            else:
                backend = FileBackend(kind, folder)
            made.append(backend)
            return backend

        return make

    yield factory
    for backend in made:
        backend.close()
