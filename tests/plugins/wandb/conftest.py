"""Fixtures that run W&B offline, keep its files in the test's folder, and stop its service at the end."""

import json
import subprocess
import time

import pytest
import wandb
from wandb.util import get_core_path

INTERVAL = 0.05
"""Seconds between wandb-core's writes to a run's file; W&B's default is 15."""


class Runs:
    """The runs in a folder; wandb-core reads their files."""

    def __init__(self, folder):
        self.folder = folder
        self._started = []

    def start(self):
        """Start a run as a user would, in addition to any active run; it is finished when the test ends."""
        self._started.append(wandb.init(dir=self.folder, reinit="create_new"))
        return self._started[-1]

    def finish(self):
        """Finish all runs started here."""
        for run in self._started:
            run.finish()

    def read(self):
        """Return the records of each run, in the order in which the runs were started."""
        runs = self._read()
        # While a run is open, wandb-core writes to its file only at intervals.
        if not all(self.of_type(records, "exit") for records in runs):
            time.sleep(10 * INTERVAL)
            runs = self._read()
        return sorted(runs, key=lambda records: self.of_type(records, "run")[0]["start_time"])

    def _read(self):
        return [self._records(file) for file in self.folder.glob("wandb/offline-run-*/run-*.wandb")]

    @staticmethod
    def of_type(records, kind):
        """Return the contents of all records of the given type."""
        return [record[kind] for record in records if record["type"] == kind]

    def rows(self, records):
        """Return the rows logged to a run as dicts."""
        return [record["item"] for record in self.of_type(records, "history")]

    @staticmethod
    def _records(file):
        command = [
            get_core_path(),
            "leet",
            "inspect",
            "--no-observability",
            "--json",
            "--run-file",
            str(file),
        ]
        printed = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=30, check=True
        )
        return [json.loads(line) for line in printed.stdout.splitlines()]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Offline runs in an empty folder."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", str(INTERVAL))
    # Each script of a test starts its own service, as it does outside of tests.
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    for kind in ("CONFIG", "CACHE", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / kind.lower()))
    runs = Runs(tmp_path)
    yield runs
    runs.finish()


@pytest.fixture(scope="session", autouse=True)
def _service():
    """Stop the service that W&B starts once per process."""
    yield
    wandb.teardown()
