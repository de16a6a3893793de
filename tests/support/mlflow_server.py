"""A real ``mlflow server`` for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

START_LIMIT = 120

# MLflow's runner of background jobs starts eight processes, which tracking does not need.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class Server:
    """An ``mlflow server`` process and its workers."""

    def __init__(self, folder, port=None):
        self.folder = folder
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = f"sqlite:///{folder}/mlflow.db"
        self.process = None

    def start(self):
        """Start the server and wait until it responds."""
        log = (self.folder / "server.log").open("a")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
                *("--workers", "1", "--backend-store-uri", self.database),
                *("--artifacts-destination", str(self.folder / "artifacts")),
            ],
            cwd=self.folder,
            env={**os.environ, **SETTINGS},
            stdout=log,
            stderr=subprocess.STDOUT,
            # A process group of the server and its workers, which kill() needs.
            start_new_session=True,
        )
        log.close()
        limit = time.monotonic() + START_LIMIT
        while not self.is_healthy():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < limit, "the server did not start in time"
            time.sleep(0.2)
        return self

    def is_healthy(self):
        """Return whether the server is healthy."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as response:
                return response.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self):
        """Kill the server and its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


def create_database(folder):
    """Create a database with MLflow's tables, which takes seconds, and return its path."""
    from mlflow import MlflowClient

    path = folder / "mlflow.db"
    client = MlflowClient(f"sqlite:///{path}")
    client.search_experiments()
    client._tracking_client.store.engine.dispose()
    return path


def free_port():
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
