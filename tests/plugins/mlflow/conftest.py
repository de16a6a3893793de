"""A real MLflow server on 127.0.0.1, with a database in a temporary folder."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

START_LIMIT = 120


class Server:
    """An ``mlflow server`` process with its workers."""

    def __init__(self, folder, port=None):
        self.folder = folder
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = f"sqlite:///{folder}/mlflow.db"
        self.process = None

    def start(self):
        """Start it, and wait until it answers."""
        log = (self.folder / "server.log").open("a")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
                *("--workers", "1", "--backend-store-uri", self.database),
                *("--artifacts-destination", str(self.folder / "artifacts")),
            ],
            cwd=self.folder,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that it can be stopped with its workers
        )
        log.close()
        limit = time.monotonic() + START_LIMIT
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < limit, "the server did not come up in time"
            time.sleep(0.2)
        return self

    def answers(self):
        """Return whether the server is healthy."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self):
        """Stop it and its workers at once."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pytest_collection_modifyitems(items):
    """Let MLflow use what its own libraries deprecate: the tests of this folder share a process with its store."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for all tests that leave it running."""
    server = Server(tmp_path_factory.mktemp("mlflow"))
    yield server.start()
    server.kill()


@pytest.fixture
def own_server(tmp_path):
    """A server of one test, not yet started, that may be killed."""
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def clean_mlflow(monkeypatch, tmp_path):
    """Each test has a folder of its own, and neither settings nor runs of another one."""
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
