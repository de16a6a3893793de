"""Tests of MLflowLogger with failing servers, and of its secrets."""

import http.server
import os
import pickle
import socket
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy
from mlflow import MlflowClient

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import Counts
from glowplug.loggers._delivery import Delivery
from glowplug_mlflow import MLflowLogger
from glowplug_mlflow.run_data import RunData
from glowplug_mlflow.time_limits import LIMITS, limited


def engine_with(logger):
    """Create an engine that logs its iterations."""
    engine = Engine(lambda engine, batch: float(batch))
    logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
    return engine


def seconds(call, *args):
    """Return the duration of a call."""
    began = time.monotonic()
    call(*args)
    return time.monotonic() - began


def wait_for(condition, limit=60):
    """Wait until a condition is true."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.05)


def test_folder_moves_during_commit(database, tmp_path):
    """Points are sent again if SQLite could not finish the commit that wrote them, because SQLite undoes it later (L2)."""
    folder, moved = tmp_path / "runs", tmp_path / "moved"
    folder.mkdir()
    uri = f"sqlite:///{database.rename(folder / 'mlflow.db')}"
    logger = MLflowLogger(uri, timeout=60)
    run_id = logger.run_id

    def move_folder(connection):
        if not moved.exists():
            folder.rename(moved)
            # A file with the name of the folder keeps MLflow from creating the folder again.
            folder.touch()

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", move_folder)
    try:
        logger.log_scalars({"loss": 1.0}, 1)
        wait_for(moved.exists)
        # The logger tries again while the folder is away.
        time.sleep(2)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "commit", move_folder)
    assert logger.counts == Counts(sent=0, dropped=0, pending=1)
    folder.unlink()
    moved.rename(folder)
    logger.close()
    assert logger.counts == Counts(sent=1, dropped=0, pending=0)
    assert [metric.step for metric in MlflowClient(uri).get_metric_history(run_id, "loss")] == [1]


def test_server_is_killed(own_server, caplog):
    """The run keeps its speed, close keeps its time limit, and sent and dropped records add up (L1)."""
    own_server.start()
    logger = MLflowLogger(own_server.uri, timeout=10)
    run_id = logger.run_id
    engine, waits, costs = engine_with(logger), [], []

    @engine.on(Events.ITERATION_COMPLETED)
    def log_more(engine):
        if engine.state.iteration == 200:
            assert logger.flush()
            own_server.kill()
        began, used = time.perf_counter(), time.thread_time()
        logger.log_scalars({"a": 1.0, "b": 2.0}, engine.state.iteration)
        costs.append(time.thread_time() - used)
        waits.append(time.perf_counter() - began)
        time.sleep(0.002)

    state = engine.run(range(1200))
    assert state.outcome is RunOutcome.COMPLETED
    assert seconds(logger.close) < 10.5
    # The limits of a call apply to its processor time, because other tests run at the same time. No call waits for the server.
    after = sorted(costs[200:])
    assert len(after) == 1000
    assert after[989] <= 100e-6
    assert after[-1] <= 10e-3
    assert sorted(waits[200:])[500] <= 100e-6
    assert max(waits[200:]) <= 1.0
    counts = logger.counts
    assert (counts.dropped, counts.sent + counts.pending) == (0, 2400)
    # Both handlers logged this many records before the flush.
    assert counts.sent >= 2 * 199
    assert "the logger retries as long as records are queued" in caplog.text
    assert f"records: {counts.sent} sent, 0 lost, {counts.pending} waiting in " in caplog.text
    assert "to deliver what waits, run `glowplug spool replay " in caplog.text
    stored = MlflowClient(own_server.database).get_metric_history(run_id, "a")
    assert [metric.step for metric in stored] == list(range(1, len(stored) + 1))
    assert len(stored) >= 199


def test_server_restarts(own_server):
    """Records logged while the server is down are delivered once and in order when it is back (L1)."""
    own_server.start()
    logger = MLflowLogger(own_server.uri, timeout=10)
    for step in range(300):
        if step == 100:
            assert logger.flush()
            own_server.kill()
        logger.log_scalars({"a": float(step)}, step)
    assert logger.flush() is False
    own_server.start()
    wait_for(lambda: logger.counts.sent == 300)
    logger.close(RunOutcome.COMPLETED)
    client = MlflowClient(own_server.uri)
    stored = client.get_metric_history(logger.run_id, "a")
    assert [metric.step for metric in stored] == list(range(300))
    assert client.get_run(logger.run_id).info.status == "FINISHED"


def test_server_starts_later(own_server):
    """Records logged before the server starts are delivered when it starts (L1)."""
    logger = MLflowLogger(own_server.uri, timeout=10)
    state = engine_with(logger).run(range(50))
    assert state.outcome is RunOutcome.COMPLETED
    assert logger.counts == Counts(0, 0, 50)
    own_server.start()
    wait_for(lambda: logger.counts.sent == 50)
    logger.close()
    assert len(MlflowClient(own_server.uri).get_metric_history(logger.run_id, "t/output")) == 50


def test_server_never_starts(own_server, caplog):
    """Without a server the run completes, close returns in time, and says how to deliver the records (L1)."""
    logger = MLflowLogger(own_server.uri, timeout=10)
    assert engine_with(logger).run(range(50)).outcome is RunOutcome.COMPLETED
    assert seconds(logger.close) < 10.5
    assert logger.counts == Counts(0, 0, 50)
    assert "records: 0 sent, 0 lost, 50 waiting in " in caplog.text
    with pytest.raises(RuntimeError, match=r"after close\(\)"):
        logger.run_id  # noqa: B018 - the look-up is the test


@pytest.fixture
def black_hole():
    """The address of a server that accepts connections and never responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_server_never_responds(black_hole, caplog):
    """A server that hangs delays the end of the run and close by one timeout together, but not the steps (L1)."""
    logger = MLflowLogger(black_hole, timeout=1)
    # The import of MLflow does not count.
    logger.prepare_backend()
    engine = engine_with(logger)
    assert seconds(engine.run, range(50)) + seconds(logger.close) < 2
    assert logger.counts == Counts(0, 0, 50)
    assert "close() timed out after 1 s; records: 0 sent, 0 lost, 50 waiting in " in caplog.text


@pytest.fixture
def refusing(request):
    """The address of a server that responds to each request with the same status."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - a name of http.server

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as refuser:
        thread = threading.Thread(target=refuser.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{refuser.server_port}"
        refuser.shutdown()
        thread.join()


@pytest.mark.parametrize("refusing", [500, 429, 401, 404], indirect=True)
def test_server_refuses(refusing, caplog):
    """Server errors and bad credentials do not affect the run; all records wait (L1)."""
    logger = MLflowLogger(refusing, timeout=10)
    assert engine_with(logger).run(range(50)).outcome is RunOutcome.COMPLETED
    assert seconds(logger.close) < 10.5
    assert logger.counts == Counts(0, 0, 50)
    assert "MLflowLogger: opening the backend failed" in caplog.text


def test_damaged_database_of_a_server(own_server, caplog):
    """If the server's database is damaged, records wait and the log asks for a repair (L1)."""
    own_server.start()
    with MLflowLogger(own_server.uri, timeout=20) as logger:
        logger.log_scalars({"a": 1.0}, 1)
        assert logger.flush()
        (own_server.folder / "mlflow.db").write_bytes(b"no database" * 1000)
        for step in range(2, 12):
            logger.log_scalars({"a": 1.0}, step)
        assert not logger.flush(5)
        assert logger.counts == Counts(1, 0, 10)
        own_server.kill()
    assert "The database is damaged; repair or replace the database" in caplog.text


def test_artifact_store_fails(own_server, monkeypatch, caplog):
    """A broken artifact store costs the records that need it, after a limited number of tries, and no other record (L1)."""
    (own_server.folder / "artifacts").write_text("not a folder")
    own_server.start()
    monkeypatch.setattr(Delivery, "LONGEST_PAUSE", 0.05)
    with MLflowLogger(own_server.uri, timeout=60) as logger:
        logger.log_params({"config": "x" * 6001})
        logger.log_scalars({"n" * 300: 1.0}, 1)
        logger.log_text("note", "text", 1)
        logger.log_scalars({"a": 1.0}, 2)
        wait_for(lambda: logger.counts == Counts(3, 1, 0))
    data = MlflowClient(own_server.uri).get_run(logger.run_id).data
    assert (sorted(data.metrics.values()), len(data.params["config"])) == ([1.0, 1.0], 6000)
    assert (
        "text note at step 1 was refused: RuntimeError: the artifact store has failed 8 times" in caplog.text
    )
    assert "the artifact params/config.txt was refused" in caplog.text


def test_artifact_store_recovers(own_server, monkeypatch):
    """A file whose upload fails a few times is uploaded when the artifact store works again (L1)."""
    artifacts = own_server.folder / "artifacts"
    artifacts.write_text("not a folder")
    own_server.start()
    monkeypatch.setattr(Delivery, "LONGEST_PAUSE", 0.5)
    with MLflowLogger(own_server.uri, timeout=60) as logger:
        logger.log_text("note", "text", 1)
        wait_for(lambda: logger._uploads._failures >= 2)
        assert logger.counts == Counts(0, 0, 1)
        artifacts.unlink()
        wait_for(lambda: logger.counts == Counts(1, 0, 0))
    client = MlflowClient(own_server.uri)
    assert client.list_artifacts(logger.run_id, "texts/note")[0].path == "texts/note/1.txt"


def test_pickle(server):
    """The copy of a logger in use logs to the same run."""
    logger = MLflowLogger(server.uri, timeout=60)
    logger.log_scalars({"a": 1.0}, 1)
    logger.flush()
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_scalars({"a": 2.0}, 2)
    copy.close()
    logger.close()
    assert copy.run_id == logger.run_id
    history = MlflowClient(server.uri).get_metric_history(logger.run_id, "a")
    assert [metric.value for metric in history] == [1.0, 2.0]


ENDINGS = {
    "records and the end at once": ("logger.log_params({'lr': 0.1})", 0, "FINISHED", {}),
    "a run": ("engine.run([1, 2])", 0, "FINISHED", {"t/output": 2.0}),
    "an exception in a run": (
        "engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: 1 / 0); engine.run([1, 2])",
        1,
        "FAILED",
        {"t/output": 2.0},
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_process_ends_without_close(server, ending):
    """A process that does not close the logger leaves a complete run with the right status."""
    code, returncode, status, metrics = ENDINGS[ending]
    script = (
        "import sys\n"
        "from glowplug import Engine, Events\n"
        "from glowplug_mlflow import MLflowLogger\n"
        "logger = MLflowLogger(sys.argv[1], experiment_name=sys.argv[2], timeout=60)\n"
        "engine = Engine(lambda engine, batch: batch)\n"
        "logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, 't', output_transform=float)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script + code, server.uri, ending],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == returncode, done.stderr
    client = MlflowClient(server.uri)
    (run,) = client.search_runs([client.get_experiment_by_name(ending).experiment_id])
    assert (run.info.status, run.data.metrics) == (status, metrics)
    assert done.stdout == ""


def test_time_limits_are_the_loggers_own(server, monkeypatch):
    """While a logger is open, the script's own calls have MLflow's time limits, and the environment is unchanged (L1)."""
    from mlflow import environment_variables as variables

    names = [*LIMITS]
    before, environment = {name: getattr(variables, name).get() for name in names}, dict(os.environ)
    seen = []

    class Watched(MLflowLogger):
        def write_text(self, name, text, step, timestamp):
            super().write_text(name, text, step, timestamp)
            seen.append({name: getattr(variables, name).get() for name in names})

    used, send = [], RunData._send

    def watched_send(self, kind, items, **options):
        used.append({name: getattr(variables, name).get() for name in names})
        return send(self, kind, items, **options)

    monkeypatch.setattr(RunData, "_send", watched_send)
    with Watched(server.uri, timeout=60) as logger:
        logger.log_scalars({"a": 1.0}, 1)
        logger.log_text("t", "text", 1)
        assert logger.flush()
        assert {name: getattr(variables, name).get() for name in names} == before
        assert dict(os.environ) == environment
    assert used == [dict(LIMITS)]
    assert seen == [before]


def test_time_limits_of_the_user(server, monkeypatch):
    """A limit that the user has set applies to the logger too."""
    from mlflow import environment_variables as variables

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with limited():
        assert variables.MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 77
        assert variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 1


@pytest.mark.parametrize("form", ["sqlite:///{}/file/mlflow.db", "postgresql://127.0.0.1:{}/runs"])
def test_database_that_cannot_be_opened(form, tmp_path, caplog):
    """A database that cannot be opened, for which MLflow tries for 100 s, does not extend the time limit (L1)."""
    (tmp_path / "file").touch()
    logger = MLflowLogger(form.format(tmp_path if "sqlite" in form else 9), timeout=2)
    # The import of MLflow does not count.
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    engine = engine_with(logger)
    assert seconds(engine.run, range(50)) + seconds(logger.close) < 4
    assert logger.counts == Counts(0, 0, 50)
