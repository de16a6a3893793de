"""Tests of MLflowLogger with failing servers, and of its secrets."""

import http.server
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import time

import pytest
from mlflow import MlflowClient

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import Counts
from glowplug_mlflow import MLflowLogger

CANARY = "c4n4ry-pa55w0rd"


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


@pytest.mark.timed
def test_server_is_killed(own_server, caplog):
    """The run keeps its speed, close keeps its time limit, and sent and dropped records add up (L1)."""
    own_server.start()
    logger = MLflowLogger(own_server.uri, timeout=10)
    run_id = logger.run_id
    engine, costs = engine_with(logger), []

    @engine.on(Events.ITERATION_COMPLETED)
    def log_more(engine):
        if engine.state.iteration == 200:
            assert logger.flush()
            own_server.kill()
        began = time.perf_counter()
        logger.log_scalars({"a": 1.0, "b": 2.0}, engine.state.iteration)
        costs.append(time.perf_counter() - began)
        time.sleep(0.002)

    state = engine.run(range(1200))
    assert state.outcome is RunOutcome.COMPLETED
    assert seconds(logger.close) < 10.5
    after = sorted(costs[200:])
    assert len(after) == 1000
    assert after[989] <= 100e-6
    assert after[-1] <= 10e-3
    counts = logger.counts
    assert (counts.pending, counts.sent + counts.dropped) == (0, 2400)
    # Both handlers logged this many records before the flush.
    assert counts.sent >= 2 * 199
    assert "the logger retries as long as records are queued" in caplog.text
    assert f"closed; {counts.sent} records sent, {counts.dropped} lost" in caplog.text
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
    """Without a server the run completes, close returns in time, and lost records are reported (L1)."""
    logger = MLflowLogger(own_server.uri, timeout=10)
    assert engine_with(logger).run(range(50)).outcome is RunOutcome.COMPLETED
    assert seconds(logger.close) < 10.5
    assert logger.counts == Counts(0, 50, 0)
    assert "closed; 0 records sent, 50 lost" in caplog.text
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
    """A server that hangs delays the end of the run and close by one timeout each, but not the steps (L1)."""
    logger = MLflowLogger(black_hole, timeout=1)
    engine = engine_with(logger)
    assert seconds(engine.run, range(50)) < 2
    assert seconds(logger.close) < 1.5
    assert logger.counts == Counts(0, 0, 50)
    assert "close() timed out after 1 s; 50 records were not delivered" in caplog.text


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
    """Server errors and bad credentials do not affect the run; all records count as dropped (L1)."""
    logger = MLflowLogger(refusing, timeout=10)
    assert engine_with(logger).run(range(50)).outcome is RunOutcome.COMPLETED
    assert seconds(logger.close) < 10.5
    assert logger.counts == Counts(0, 50, 0)
    assert "MLflowLogger: opening the backend failed" in caplog.text


def chain(error):
    """Return an exception and its causes as text."""
    texts = []
    while error is not None:
        texts.append(repr(error))
        assert error.__context__ is None or error.__context__ is error.__cause__
        error = error.__cause__
    return "\n".join(texts)


class TestPasswords:
    @pytest.mark.parametrize(
        "form", ["http://me:{}@127.0.0.1:9", "postgresql://me:{}@127.0.0.1:9/db", "no-scheme://me:{}@x"]
    )
    def test_password_of_a_failing_server(self, form, caplog, capfd):
        """The password of the URI occurs in no log, output, exception or repr when the logger fails (S3)."""
        caplog.set_level(logging.DEBUG)
        uri = form.format(CANARY)
        logger = MLflowLogger(uri, timeout=10)
        engine_with(logger).run(range(3))
        with pytest.raises(ConnectionError) as caught:
            logger.run_id  # noqa: B018 - the look-up is the test
        logger.close()
        strict = MLflowLogger(uri, timeout=10, on_error="raise")
        strict.log_scalars({"a": 1.0}, 1)
        with pytest.raises((ConnectionError, RuntimeError)) as raised:
            strict.flush()
        with pytest.raises((ConnectionError, RuntimeError)):
            strict.close()
        shown = "\n".join(
            [caplog.text, *capfd.readouterr(), chain(caught.value), chain(raised.value), repr(logger)]
        )
        assert "MLflowLogger" in shown
        assert "***" in shown
        assert CANARY not in shown

    def test_password_of_a_working_server(self, own_server, caplog, capfd):
        """The password of the URI occurs in no log, output or database during a run and an outage (S3)."""
        caplog.set_level(logging.DEBUG)
        own_server.start()
        uri = own_server.uri.replace("://", f"://me:{CANARY}@")
        logger = MLflowLogger(uri, timeout=10)
        logger.log_params({"lr": 0.1})
        logger.log_params({"lr": 0.2})
        engine_with(logger).run(range(3))
        logger.close()
        assert logger.counts == Counts(4, 1, 0)
        second = MLflowLogger(uri, timeout=10)
        second.log_scalars({"a": 1.0}, 1)
        assert second.flush()
        own_server.kill()
        second.log_scalars({"a": 2.0}, 2)
        second.close()
        assert second.counts == Counts(1, 1, 0)
        assert CANARY not in "\n".join([caplog.text, *capfd.readouterr()])
        tags = [*own_server.folder.glob("mlflow.db*")]
        assert not any(CANARY.encode() in path.read_bytes() for path in tags)


def test_request_limits_apply_while_open(server, monkeypatch):
    """Request limits are set while the run is open, then removed, and never replace the user's."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before = dict(os.environ)
    with MLflowLogger(server.uri, timeout=60) as logger:
        assert logger.run_id
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert dict(os.environ) == before


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
