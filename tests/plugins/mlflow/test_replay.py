"""Records that waited on disk reach the run that their script meant."""

import subprocess
import sys

import mlflow
from click.testing import CliRunner

from glowplug.cli import main
from glowplug_mlflow import MLflowLogger


def test_run_that_was_never_created(own_server, database):
    """The replay creates the run with the experiment, name and tags that the script gave."""
    with MLflowLogger(
        own_server.uri, "digits", run_name="first", tags={"stage": "warm-up"}, timeout=1
    ) as logger:
        logger.log_scalars({"loss": 0.5}, step=1)
    assert logger.counts == (0, 0, 1)
    uri = f"sqlite:///{database.as_posix()}"
    ended = CliRunner().invoke(main, ["spool", "replay", "--option", f"tracking_uri={uri}"])
    assert ended.exit_code == 0, ended.output
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.tags["stage"] == "warm-up"
    assert run.data.metrics == {"loss": 0.5}


def replay():
    """Deliver the waiting records in this process."""
    ended = CliRunner().invoke(main, ["spool", "replay"])
    assert ended.exit_code == 0, ended.output


KILLED_AT_ONCE = """
import os
from glowplug_mlflow import MLflowLogger
logger = MLflowLogger(durable=True)
logger.log_scalars({"a": 1.0}, 1)
os._exit(9)
"""


def test_killed_before_the_store_was_known(tmp_path, monkeypatch):
    """The replay in another folder writes to MLflow's default store in the folder of the script, without metrics of the machine."""
    script, other = tmp_path / "script folder", tmp_path / "other"
    script.mkdir()
    other.mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_ONCE], cwd=script, timeout=120, check=False)
    assert killed.returncode == 9
    monkeypatch.chdir(other)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    replay()
    assert list(other.iterdir()) == []
    (run,) = mlflow.MlflowClient(f"sqlite:///{script.as_posix()}/mlflow.db").search_runs(["0"])
    assert (run.info.status, run.data.metrics) == ("KILLED", {"a": 1.0})


KILLED_AFTER_ACTIVE_RUN = """
import os, sys
import mlflow
from glowplug_mlflow import MLflowLogger
mlflow.set_tracking_uri(sys.argv[1])
with mlflow.start_run():
    logger = MLflowLogger(timeout=60)
    logger.log_scalars({"a": 1.0}, 1)
    assert logger.flush()
os._exit(9)
"""


def test_status_of_the_users_run(database):
    """The replay does not change the status of a run that the script itself started and ended."""
    uri = f"sqlite:///{database.as_posix()}"
    command = [sys.executable, "-c", KILLED_AFTER_ACTIVE_RUN, uri]
    assert subprocess.run(command, timeout=120, check=False).returncode == 9
    replay()
    (run,) = mlflow.MlflowClient(uri).search_runs(["0"])
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"a": 1.0})
