"""Backends of the loggers in the tests of reliability: their address, their faults, and what they have stored."""

import csv
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

from faulty_proxy import HEALTHY, REFUSED, FaultyProxy

NAME = "training/loss"


class FileBackend:
    """A local file or folder of TensorboardLogger, JsonLinesLogger or CsvLogger."""

    has_spool = False

    def __init__(self, kind, folder):
        self.kind = kind
        self.folder = folder / "logs"
        self.folder.mkdir(parents=True)
        self.path = self.folder / ("events" if kind == "tensorboard" else f"run.{kind}")
        self.arguments = {"kind": kind, "target": str(self.path), "options": {}}

    def stored(self):
        """Return how often each step is stored."""
        if not self.path.exists():
            return Counter()
        return Counter(
            {"tensorboard": _event_steps, "jsonl": _json_steps, "csv": _csv_steps}[self.kind](self.path)
        )

    def runs(self):
        """Return the status of each run."""
        return ["FINISHED"]

    def outcomes(self):
        """Return how each run of a JSON Lines file has ended."""
        if not self.path.exists():
            return []
        records = [json.loads(line) for line in self.path.read_bytes().split(b"\n")[:-1]]
        return [record["outcome"] for record in records if record["kind"] == "end"]

    def close(self):
        """Release the backend."""


class MLflowServerBackend:
    """An experiment on a real ``mlflow server``, behind a proxy that may fail."""

    kind = "mlflow"
    has_spool = True

    def __init__(self, server, experiment):
        self.database = server.folder / "mlflow.db"
        self.experiment = experiment
        self.proxy = FaultyProxy(server.port)
        self.arguments = {
            "kind": "mlflow",
            "target": self.proxy.uri,
            "options": {"experiment_name": experiment},
        }

    @contextmanager
    def down(self):
        """Refuse connections."""
        self.proxy.fault = REFUSED
        yield
        self.proxy.fault = HEALTHY

    def stored(self):
        """Return how often each step is stored."""
        return _metric_steps(self.database, self.experiment)

    def runs(self):
        """Return the status of each run."""
        return statuses(self.database, self.experiment)

    def close(self):
        """Release the backend."""
        self.proxy.close()


class MLflowDatabaseBackend:
    """An SQLite database that MLflowLogger writes without a server."""

    kind = "mlflow"
    has_spool = True

    def __init__(self, empty_database, folder):
        self.folder = folder / "logs"
        self.folder.mkdir(parents=True)
        self.database = Path(shutil.copy(empty_database, self.folder / "mlflow.db"))
        self.arguments = {
            "kind": "mlflow",
            "target": f"sqlite:///{self.database}",
            "options": {"experiment_name": "kills"},
        }

    @contextmanager
    def down(self):
        """Keep the database locked, as another program would."""
        with closing(sqlite3.connect(self.database, timeout=30, isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            yield
            database.execute("ROLLBACK")

    def stored(self):
        """Return how often each step is stored."""
        return _metric_steps(self.database, "kills")

    def runs(self):
        """Return the status of each run."""
        return statuses(self.database, "kills")

    def close(self):
        """Release the backend."""


def _metric_steps(path, experiment):
    query = """
        SELECT step FROM metrics JOIN runs USING (run_uuid) JOIN experiments ON runs.experiment_id = experiments.experiment_id
        WHERE experiments.name = ? AND metrics.key = ?
    """
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return Counter(step for (step,) in database.execute(query, (experiment, NAME)))


def statuses(path, experiment):
    """Return the status of each run of an experiment in MLflow's database."""
    query = "SELECT status FROM runs JOIN experiments USING (experiment_id) WHERE experiments.name = ?"
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return [status for (status,) in database.execute(query, (experiment,))]


def _json_steps(path):
    for line in path.read_bytes().split(b"\n")[:-1]:
        record = json.loads(line)
        if record["kind"] == "scalars":
            yield record["step"]


def _csv_steps(path):
    # A killed process may leave a part of the last row.
    whole = path.read_bytes().rpartition(b"\n")[0].decode()
    return [int(row["step"]) for row in csv.DictReader(whole.splitlines())]


def _event_steps(folder):
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        for data in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(data)
            if event.summary.value and event.summary.value[0].tag == NAME:
                yield event.step
