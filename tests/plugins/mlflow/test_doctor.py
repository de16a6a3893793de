"""Tests of the MLflow finding of `glowplug doctor`."""

import http.server
import threading

import pytest

from glowplug_mlflow._plugin import glowplug_doctor
from glowplug_mlflow.doctor import check_tracking_server

SECRET = "hunter-2 canary"


class Handler(http.server.BaseHTTPRequestHandler):
    """Responds with the status in the path and records the credentials."""

    def do_GET(self):
        self.server.credentials.append(self.headers["Authorization"])
        code = int(self.path.split("/")[1])
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/200/health")
        self.end_headers()

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def server():
    """An HTTP server that responds to GET /CODE/health with that code."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.credentials = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """An environment without a proxy and without settings of MLflow."""
    for name in ("TRACKING_URI", "TRACKING_USERNAME", "TRACKING_PASSWORD", "TRACKING_TOKEN"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return monkeypatch


@pytest.mark.parametrize(
    ("code", "status", "found"),
    [
        (200, "ok", " responds"),
        (401, "error", " denies access (status 401)"),
        (403, "error", " denies access (status 403)"),
        (404, "warning", " has no page /health, so it is probably not an MLflow server"),
        (503, "error", " responds with status 503"),
    ],
)
def test_server_status(server, environment, code, status, found):
    """Each status of the server gives a finding, with a remedy unless it is ok."""
    uri = f"http://127.0.0.1:{server.server_port}/{code}"
    environment.setenv("MLFLOW_TRACKING_URI", uri)
    (check,) = glowplug_doctor()
    assert check.status == status
    assert check.message.startswith(uri + found)
    assert bool(check.remedy) == (status != "ok")


def test_no_server(environment):
    """An unused port gives an error that contains the address and how to start a server."""
    environment.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    check = check_tracking_server()
    assert check.status == "error"
    assert "no response from http://127.0.0.1:1: " in check.message
    assert "start the MLflow server" in check.remedy


@pytest.mark.parametrize("uri", ["http://[", "http://127.0.0.1:port", "sqlite:///mlflow.db", "./mlruns", ""])
def test_other_uris(environment, uri):
    """Local stores are ok; an invalid address is an error, not a crash."""
    environment.setenv("MLFLOW_TRACKING_URI", uri)
    assert check_tracking_server().status == ("error" if uri.startswith("http") else "ok")


@pytest.mark.parametrize("code", [200, 401, 404, 503])
def test_password_of_a_server(server, environment, code):
    """Credentials of the address and the environment reach the server but not the finding (S3)."""
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


@pytest.mark.parametrize("name", ["TOKEN", "PASSWORD"])
def test_redirected_request(server, environment, name):
    """The credentials are not sent to the target of a redirection, which may be another server (S3)."""
    environment.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}/302")
    environment.setenv("MLFLOW_TRACKING_USERNAME", "me" if name == "PASSWORD" else "")
    environment.setenv(f"MLFLOW_TRACKING_{name}", SECRET)
    assert check_tracking_server().status == "ok"
    first, second = server.credentials
    assert first is not None
    assert second is None


def test_token_with_a_line_break(server, environment):
    """The finding about a token that ends with a line break does not contain the token (S3)."""
    environment.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}/200")
    environment.setenv("MLFLOW_TRACKING_TOKEN", f"{SECRET}\n")
    check = check_tracking_server()
    assert check.status == "error"
    assert SECRET not in repr(check)


def test_password_without_a_server(environment):
    """The finding has no password if the connection fails (S3)."""
    environment.setenv("MLFLOW_TRACKING_URI", "http://me:canary@127.0.0.1:1")
    check = check_tracking_server()
    assert check.status == "error"
    assert "canary" not in repr(check)
