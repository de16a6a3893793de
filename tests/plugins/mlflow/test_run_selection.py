"""Which run a logger uses: MLflow's order of precedence, resumed runs, ranks, and relative paths."""

import os
import shutil
import subprocess
import sys
import time

import mlflow
import pytest
from faulty_proxy import ANSWER_LOST, HEALTHY, FaultyProxy
from mlflow import MlflowClient

from glowplug import Engine, Events, RunOutcome
from glowplug_mlflow import MLflowLogger
from glowplug_mlflow.address import Address, absolute, default_store


def make(uri, **options):
    """Create a logger with a timeout for slow machines."""
    return MLflowLogger(uri, timeout=60, **options)


def engine_with(logger):
    """Create an engine that logs its iterations."""
    engine = Engine(lambda engine, batch: float(batch))
    logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
    return engine


@pytest.fixture
def store(database):
    """The URI of a database, and a client of it."""
    uri = f"sqlite:///{database}"
    return uri, MlflowClient(uri)


def log_one(logger):
    """Log one value, and return the id of the run."""
    with logger:
        logger.log_scalars({"a": 1.0}, 1)
    assert logger.counts == (1, 0, 0)
    return logger.run_id


class TestRunFromTheEnvironment:
    def test_run_id(self, store, monkeypatch, caplog):
        """MLFLOW_RUN_ID selects the run, even with names, and the run of another program stays open."""
        uri, client = store
        run_id = client.create_run("0").info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        assert log_one(make(uri)) == run_id
        assert log_one(make(uri, experiment_name="other")) == run_id
        assert "belongs to the experiment 'Default', so experiment_name='other' is ignored" in caplog.text
        assert client.get_run(run_id).info.status == "RUNNING"
        assert os.environ["MLFLOW_RUN_ID"] == run_id

    def test_finished_run_is_renamed(self, store, monkeypatch):
        """A finished run that MLFLOW_RUN_ID selects runs again, gets the given name, and is finished."""
        uri, client = store
        run_id = client.create_run("0").info.run_id
        client.set_terminated(run_id, "FAILED")
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        assert log_one(make(uri, run_name="renamed")) == run_id
        info = client.get_run(run_id).info
        assert (info.status, info.run_name) == ("FINISHED", "renamed")

    def test_precedence(self, store, monkeypatch):
        """run_id, the active run, a child and another store precede MLFLOW_RUN_ID."""
        uri, client = store
        monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
        given = client.create_run("0").info.run_id
        client.set_terminated(given)
        assert log_one(make(uri, run_id=given)) == given
        child = log_one(make(uri, parent_run_id=given))
        assert client.get_run(child).data.tags["mlflow.parentRunId"] == given
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert log_one(make(uri)) not in (given, child)
        monkeypatch.delenv("MLFLOW_RUN_ID")
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(uri)
        with mlflow.start_run() as run:
            monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
            assert log_one(MLflowLogger(timeout=60)) == run.info.run_id


class TestExperiment:
    def test_precedence(self, store, monkeypatch):
        """A given name precedes mlflow.set_experiment, which precedes the environment's name and then its id."""
        uri, client = store
        mlflow.set_tracking_uri(uri)

        def chosen(**options):
            run = client.get_run(log_one(make(uri, **options)))
            return client.get_experiment(run.info.experiment_id).name

        assert chosen() == "Default"
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", client.create_experiment("by id"))
        assert chosen() == "by id"
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
        assert chosen() == "by name"
        mlflow.set_experiment("set")
        assert chosen() == "set"
        assert chosen(experiment_name="given") == "given"

    def test_same_store_in_other_words(self, tmp_path, monkeypatch):
        """mlflow.set_experiment counts when the script and the logger write the store's path differently."""
        monkeypatch.chdir(tmp_path)
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        experiment = mlflow.set_experiment("set").experiment_id
        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        run_id = log_one(make("sqlite:///mlflow.db"))
        assert client.get_run(run_id).info.experiment_id == experiment

    def test_set_experiment_of_another_store(self, store, tmp_path, monkeypatch):
        """The experiment of mlflow.set_experiment in the default store does not count for a logger with another store."""
        uri, client = store
        client.create_experiment("first")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert mlflow.set_experiment("set").experiment_id == "1"
        assert client.get_run(log_one(make(uri))).info.experiment_id == "0"


class TestResume:
    def test_state_finds_the_run(self, store):
        """A loaded state selects its run without further arguments, and the run is RUNNING and then FINISHED (L5)."""
        uri, client = store
        first = make(uri, experiment_name="resumed", run_name="mine")
        engine = engine_with(first)
        engine.add_event_handler(Events.ITERATION_STARTED(once=3), lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.run([1, 2, 3])
        state = engine.state_dict()
        first.close()
        assert client.get_run(first.run_id).info.status == "FAILED"
        second = make(uri, experiment_name="resumed", run_name="mine")
        resumed = engine_with(second)
        resumed.load_state_dict(state)
        statuses = []

        @resumed.on(Events.EPOCH_COMPLETED)
        def read_status():
            second.flush()
            statuses.append(client.get_run(first.run_id).info.status)

        resumed.run([1, 2, 3])
        second.close()
        assert second.run_id == first.run_id
        assert (statuses, client.get_run(first.run_id).info.status) == (["RUNNING"], "FINISHED")
        assert [m.step for m in client.get_metric_history(first.run_id, "t/output")] == [1, 2, 3]
        assert len(client.search_runs([client.get_experiment_by_name("resumed").experiment_id])) == 1

    def test_older_state_of_a_completed_run(self, store):
        """A completed run that is resumed from an older state gets each step once (L3)."""
        uri, client = store
        states = []
        for epochs in (4, 5):
            with make(uri) as logger:
                engine = engine_with(logger)
                engine.add_event_handler(
                    Events.EPOCH_COMPLETED, lambda engine: states.append(engine.state_dict())
                )
                if states:
                    engine.load_state_dict(states[0])
                engine.run([1, 2, 3], max_epochs=epochs)
        history = client.get_metric_history(logger.run_id, "t/output")
        assert [metric.step for metric in history] == list(range(1, 16))

    def test_older_state_without_the_spool(self, store, state_folder):
        """On a machine without the run's spool, each step is stored once, also under an escaped name (L3)."""
        uri, client = store
        with make(uri) as first:
            engine = engine_with(first)
            state = engine.run([1, 2, 3]) and engine.state_dict()
            for step in (1, 2):
                first.log_scalars({"f1@0.5": 0.0}, step)
            engine.run([1, 2, 3], max_epochs=2)
        shutil.rmtree(state_folder)
        with make(uri) as second:
            engine = engine_with(second)
            engine.load_state_dict(state)
            for step in (1, 2, 3):
                second.log_scalars({"f1@0.5": 0.0}, step)
            engine.run([1, 2, 3], max_epochs=3)
        assert second.run_id == first.run_id
        for key, last in {"t/output": 9, "f1_x40_0.5": 3}.items():
            history = client.get_metric_history(first.run_id, key)
            assert [metric.step for metric in history] == list(range(1, last + 1))

    def test_state_of_another_store(self, store, tmp_path, caplog):
        """If the store does not have the run of a state, records wait, and the log says which address is needed."""
        uri, client = store
        with make(uri) as first:
            first.log_scalars({"a": 1.0}, 1)
            assert first.flush()
            state = first.state_dict()
        other = f"sqlite:///{tmp_path}/other.db"
        with MLflowLogger(other, timeout=2) as second:
            second.load_state_dict(state)
            second.log_scalars({"a": 1.0}, 2)
        assert second.counts == (0, 0, 1)
        assert (
            f"the run {first.run_id} does not exist in {other}, so it was probably created with another"
            in caplog.text
        )
        command = [sys.executable, "-m", "glowplug", "spool", "replay", "--option", f"tracking_uri={uri}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert [metric.step for metric in client.get_metric_history(first.run_id, "a")] == [1, 2]

    def test_answer_to_the_creation_is_lost(self, store, monkeypatch):
        """A run whose creation succeeded without an answer is used, so there is one run (L3)."""
        uri, client = store
        create, calls = MlflowClient.create_run, []

        def lose_the_answer(self, *args, **kwargs):
            run = create(self, *args, **kwargs)
            calls.append(run.info.run_id)
            if len(calls) == 1:
                raise ConnectionError("the connection was closed")
            return run

        monkeypatch.setattr(MlflowClient, "create_run", lose_the_answer)
        logger = make(uri)
        logger.log_scalars({"a": 1.0}, 1)
        assert not logger.flush()
        while not logger.flush():
            time.sleep(0.1)
        logger.close()
        assert logger.run_id == calls[0]
        assert len(calls) == len(client.search_runs(["0"])) == 1

    def test_answer_of_the_server_is_lost(self, server):
        """If the server creates the run but its answer is lost, the request is not repeated, so there is one run (L3)."""
        proxy, client = FaultyProxy(server.port), MlflowClient(server.uri)
        proxy.fault = ANSWER_LOST
        try:
            logger = make(proxy.uri, run_name="lost answer")
            logger.log_scalars({"a": 1.0}, 1)
            assert not logger.flush()
            assert client.search_runs(["0"], "attributes.run_name = 'lost answer'")
            proxy.fault = HEALTHY
            while not logger.flush():
                time.sleep(0.1)
            logger.close()
        finally:
            proxy.close()
        (run,) = client.search_runs(["0"], "attributes.run_name = 'lost answer'")
        assert (run.info.status, run.data.metrics) == ("FINISHED", {"a": 1.0})


class TestAddress:
    @pytest.mark.parametrize(
        ("uri", "expected"),
        [
            ("sqlite:///mlflow.db", "sqlite:////data/mlflow.db"),
            ("sqlite:///runs/../mlflow.db?timeout=5", "sqlite:////data/mlflow.db?timeout=5"),
            ("sqlite+pysqlite:///mlflow.db", "sqlite+pysqlite:////data/mlflow.db"),
            ("sqlite:////abs/mlflow.db", "sqlite:////abs/mlflow.db"),
            ("sqlite:///:memory:", "sqlite:///:memory:"),
            ("mlruns", "/data/mlruns"),
            ("./mlruns", "/data/mlruns"),
            ("file:mlruns", "file:/data/mlruns"),
            ("file:///abs/mlruns", "file:///abs/mlruns"),
            ("databricks", "databricks"),
            ("databricks://profile", "databricks://profile"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("postgresql://127.0.0.1/db", "postgresql://127.0.0.1/db"),
        ],
    )
    def test_absolute(self, uri, expected):
        """Relative paths of local stores are completed; all else stays."""
        assert absolute(uri, "/data") == expected

    def test_path_objects(self, tmp_path, monkeypatch):
        """A path object is accepted."""
        monkeypatch.chdir(tmp_path)
        assert Address(tmp_path / "runs").public == str(tmp_path / "runs")

    @pytest.mark.parametrize("uri", ["sqlite:///given.db", None])
    def test_changed_folder(self, uri, tmp_path, monkeypatch):
        """A logger that is created before os.chdir writes to the former folder."""
        (tmp_path / "a folder").mkdir()
        monkeypatch.chdir(tmp_path / "a folder")
        logger = make(uri)
        # MLflow uses this folder as the default store of the folder that contains it.
        (tmp_path / "elsewhere" / "mlruns" / "0").mkdir(parents=True)
        (tmp_path / "elsewhere" / "mlruns" / "0" / "meta.yaml").touch()
        monkeypatch.chdir(tmp_path / "elsewhere")
        run_id = log_one(logger)
        database = tmp_path / "a folder" / ("given.db" if uri else "mlflow.db")
        assert MlflowClient(f"sqlite:///{database}").get_run(run_id).data.metrics == {"a": 1.0}
        assert not list((tmp_path / "elsewhere").glob("*.db"))


@pytest.mark.parametrize("has_runs", [False, True])
def test_default_store(has_runs, tmp_path):
    """The default store is the one that MLflow chooses."""
    if has_runs:
        (tmp_path / "mlruns" / "0").mkdir(parents=True)
        (tmp_path / "mlruns" / "0" / "meta.yaml").touch()
    assert mlflow.get_tracking_uri().removeprefix("file://") == default_store(str(tmp_path))


def test_nested_in_another_store(store, tmp_path):
    """A child of an active run cannot be in another store."""
    mlflow.set_tracking_uri(store[0])
    with (
        mlflow.start_run(),
        pytest.raises(ValueError, match="nested=True requires an active run in the same store"),
    ):
        make(f"sqlite:///{tmp_path}/other.db", nested=True)


RANK = """
import sys
from glowplug_mlflow import MLflowLogger
logger = MLflowLogger(sys.argv[1], "ranks", timeout=60)
logger.log_params({"lr": 0.1})
logger.log_scalars({"a": 1.0}, 1)
logger.close()
"""


def test_ranks_before_init_process_group(server):
    """Of two processes of torchrun that log before init_process_group, only rank 0 opens a run (L5)."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, server.uri],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
        )
        for rank in (1, 0)
    ]
    try:
        assert [process.wait(120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    client = MlflowClient(server.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("ranks").experiment_id])
    assert (run.info.status, run.data.metrics, run.data.params) == ("FINISHED", {"a": 1.0}, {"lr": "0.1"})


def test_outcome_of_a_failed_close(store):
    """A run that is closed as failed and continued by its id runs again (L5)."""
    uri, client = store
    logger = make(uri)
    logger.log_scalars({"a": 1.0}, 1)
    logger.close(RunOutcome.FAILED)
    assert log_one(make(uri, run_id=logger.run_id)) == logger.run_id
    assert client.get_run(logger.run_id).info.status == "FINISHED"


OPEN_RUN = """
import sys
from glowplug_mlflow import MLflowLogger
logger = MLflowLogger(sys.argv[1], timeout=60)
print(logger.run_id, flush=True)
sys.stdin.read()
"""


def test_run_of_another_process(store, caplog):
    """A run that a logger of another process has open stays RUNNING; after that process was killed, it is ended (L5)."""
    uri, client = store
    command = [sys.executable, "-c", OPEN_RUN, uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            run_id = process.stdout.readline().strip()
            assert log_one(make(uri, run_id=run_id)) == run_id
            assert client.get_run(run_id).info.status == "RUNNING"
            assert f"the process {process.pid} still has the run {run_id} open" in caplog.text
        finally:
            process.kill()
            process.wait(10)
    assert log_one(make(uri, run_id=run_id)) == run_id
    assert client.get_run(run_id).info.status == "FINISHED"


KILLED_AFTER_CREATION = """
import os, sys
from mlflow import MlflowClient
from glowplug_mlflow import MLflowLogger

create_run = MlflowClient.create_run

def create_and_die(*args, **kwargs):
    create_run(*args, **kwargs)
    os._exit(9)

MlflowClient.create_run = create_and_die
logger = MLflowLogger(sys.argv[1], "killed", run_name="first", timeout=60)
logger.log_scalars({"a": 1.0}, 1)
logger.flush()
"""


def test_killed_before_the_run_was_known(store):
    """If a process is killed before it knows the id of its run, the replay finds the run in its experiment (L2, L5)."""
    uri, client = store
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER_CREATION, uri], timeout=120, check=False)
    assert killed.returncode == 9
    command = [sys.executable, "-m", "glowplug", "spool", "replay"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = client.search_runs([client.get_experiment_by_name("killed").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.metrics) == ("first", "KILLED", {"a": 1.0})
