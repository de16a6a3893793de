"""What `glowplug doctor` is told of MLflow: real answers of servers on 127.0.0.1, and never a password."""

import http.server
import threading

import pytest

from glowplug_mlflow._plugin import glowplug_doctor
from glowplug_mlflow.doctor import check_tracking_server

SECRET = "hunter-2 canary"


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers as the path says, and keeps the header with the credentials."""

    def do_GET(self):
        self.server.credentials.append(self.headers["Authorization"])
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def server():
    """An HTTP server that answers GET /CODE/health with that code."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        running.credentials = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No setting of MLflow's but those of the test, and no proxy."""
    for name in ("TRACKING_URI", "TRACKING_USERNAME", "TRACKING_PASSWORD", "TRACKING_TOKEN"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return monkeypatch


@pytest.mark.parametrize(
    ("code", "status", "found"),
    [
        (200, "ok", " answers"),
        (401, "error", " refuses these credentials (401)"),
        (403, "error", " refuses these credentials (403)"),
        (404, "warning", " answers, but not as an MLflow server does"),
        (503, "error", " answers with 503"),
    ],
)
def test_what_the_server_answers(server, environment, code, status, found):
    """Each answer is told apart, with what to do where something is wrong."""
    uri = f"http://127.0.0.1:{server.server_port}/{code}"
    environment.setenv("MLFLOW_TRACKING_URI", uri)
    (check,) = glowplug_doctor()
    assert check.status == status
    assert check.message.startswith(uri + found)
    assert bool(check.remedy) == (status != "ok")


def test_no_server(environment):
    """A port that nobody listens on is an error that names the address, and how to start a server."""
    environment.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    check = check_tracking_server()
    assert check.status == "error"
    assert "no answer from http://127.0.0.1:1: " in check.message
    assert "start mlflow server" in check.remedy


@pytest.mark.parametrize("uri", ["http://[", "http://127.0.0.1:port", "sqlite:///mlflow.db", "./mlruns", ""])
def test_what_is_no_server(environment, uri):
    """A folder and a database are no fault; an address that is none is, and is no crash."""
    environment.setenv("MLFLOW_TRACKING_URI", uri)
    assert check_tracking_server().status == ("error" if uri.startswith("http") else "ok")


@pytest.mark.parametrize("code", [200, 401, 404, 503])
def test_S3_password_is_shown_nowhere(server, environment, code):
    """Credentials reach the server, from the address and from the environment, and no finding."""
    quoted = SECRET.replace(" ", "%20")
    environment.setenv("MLFLOW_TRACKING_URI", f"http://me:{quoted}@127.0.0.1:{server.server_port}/{code}")
    check = check_tracking_server()
    assert server.credentials[-1].startswith("Basic ")
    for secret in (SECRET, quoted):
        assert secret not in repr(check)
    environment.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}/{code}")
    environment.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    assert SECRET not in repr(check_tracking_server())
    assert server.credentials[-1] == f"Bearer {SECRET}"


def test_S3_password_of_a_server_that_is_away(environment):
    """Nor is it shown where the connection fails."""
    environment.setenv("MLFLOW_TRACKING_URI", "http://me:canary@127.0.0.1:1")
    check = check_tracking_server()
    assert check.status == "error"
    assert "canary" not in repr(check)
