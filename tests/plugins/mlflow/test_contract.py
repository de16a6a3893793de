"""Contract test of MLflowLogger with a local database."""

import shutil
import sqlite3

import mlflow
import pytest

from glowplug_mlflow import MLflowLogger
from glowplug_testing import LoggerCase, LoggerContract

QUERY = "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY rowid"


@pytest.fixture(scope="module")
def contract_database(empty_database, tmp_path_factory):
    """One database for all checks, because MLflow takes a second to open one."""
    return shutil.copy(empty_database, tmp_path_factory.mktemp("contract") / "mlflow.db")


class TestMLflowLogger(LoggerContract):
    @pytest.fixture
    def case(self, contract_database):
        """Loggers that write to one run."""
        database = contract_database
        uri = f"sqlite:///{database}"
        client = mlflow.MlflowClient(uri)
        run_id = client.create_run("0").info.run_id
        client.set_terminated(run_id)

        def read():
            with sqlite3.connect(database) as connection:
                rows = connection.execute(QUERY, (run_id,)).fetchall()
            connection.close()
            return [(key, step, float("nan") if is_nan else value) for key, step, value, is_nan in rows]

        def borrowed():
            mlflow.set_tracking_uri(uri)
            active = mlflow.start_run()
            return MLflowLogger(
                timeout=60
            ), lambda: client.get_run(active.info.run_id).info.status == "RUNNING"

        return LoggerCase(
            make=lambda **options: MLflowLogger(uri, run_id=run_id, **options),
            read=read,
            borrowed=borrowed,
            plugin="glowplug_mlflow._plugin",
            heavy=["mlflow"],
        )
