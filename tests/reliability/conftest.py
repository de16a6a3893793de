"""Fixtures of the tests of reliability.

Environment variables:

- GLOWPLUG_CAMPAIGN: 1 for the full counts, or a fraction such as 0.2 for a part of them;
- GLOWPLUG_SEED: seed of the random moments, which a failing test shows;
- GLOWPLUG_WORKERS: number of processes that train at the same time;
- GLOWPLUG_FIGURES: file to which the figures of each test are appended, as JSON.
"""

import json
import os
import random
import secrets
from pathlib import Path

import pytest
from backends import FileBackend, MLflowDatabaseBackend, MLflowServerBackend
from forked_jobs import Jobs
from mlflow_server import Server, create_database

SHARE = float(os.environ.get("GLOWPLUG_CAMPAIGN", "0"))
WORKERS = int(os.environ.get("GLOWPLUG_WORKERS", "3"))


def pytest_collection_modifyitems(items):
    """Ignore a deprecation warning of MLflow's database library in the tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"))


@pytest.fixture
def count():
    """Return the function that selects the number for CI or for a campaign."""
    return lambda in_ci, in_campaign: max(in_ci, round(SHARE * in_campaign))


@pytest.fixture
def is_campaign():
    """Whether this is a campaign, which runs alone on its machine."""
    return SHARE > 0


@pytest.fixture
def seed():
    """The seed of the random moments; a failing test shows it."""
    value = int(os.environ.get("GLOWPLUG_SEED") or secrets.randbelow(1_000_000))
    print(f"repeat with GLOWPLUG_SEED={value}")
    return value


@pytest.fixture
def moments(seed):
    """Return a function that returns the random generator of an item of the test."""
    return lambda *item: random.Random(f"{seed} {item}")


@pytest.fixture
def report(request, seed):
    """Return a function that reports figures of a test: printed, and appended to the file GLOWPLUG_FIGURES."""

    def write(**figures):
        line = json.dumps({"test": request.node.name, "seed": seed, **figures})
        print(line)
        if path := os.environ.get("GLOWPLUG_FIGURES"):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    return write


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
