"""No secret of a tracking URI or of the environment occurs in a text or file that the logger writes."""

import base64
import copy
import logging
import pickle
from pathlib import Path

import pytest

from glowplug import Engine, Events
from glowplug.loggers import Counts
from glowplug_mlflow import MLflowLogger
from glowplug_mlflow.doctor import check_tracking_server
from glowplug_mlflow.redaction import redact, without_secrets

CANARY = "c4n4ry-pa55w0rd"


def engine_with(logger):
    """Create an engine that logs its iterations."""
    engine = Engine(lambda engine, batch: float(batch))
    logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
    return engine


def content(folder):
    """Return the bytes of all files in a folder."""
    return b"".join(file.read_bytes() for file in Path(folder).rglob("*") if file.is_file())


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
        "form",
        [
            "http://me:{}@127.0.0.1:9",
            "http://127.0.0.1:9/?api_key={}",
            "http://127.0.0.1:9/prefix?password={}&page=1",
            "postgresql://me:{}@127.0.0.1:9/db",
            "postgresql://127.0.0.1:9/db?user=me&password={}",
            "no-scheme://me:{}@x",
        ],
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
        assert logger.counts[:2] == (4, 1)
        second = MLflowLogger(uri, timeout=10)
        second.log_scalars({"a": 1.0}, 1)
        assert second.flush()
        own_server.kill()
        second.log_scalars({"a": 2.0}, 2)
        second.close()
        assert second.counts == Counts(1, 0, 1)
        assert CANARY not in "\n".join([caplog.text, *capfd.readouterr()])
        tags = [*own_server.folder.glob("mlflow.db*")]
        assert not any(CANARY.encode() in path.read_bytes() for path in tags)


FORMS = [
    "http://me:{}@127.0.0.1:9",
    "https://{}@127.0.0.1:9",
    "http://127.0.0.1:9/?api_key={}",
    "postgresql://me:{}@127.0.0.1/db",
    "postgresql://me:a/{}@127.0.0.1/db",
    "mysql+pymysql://127.0.0.1/db?user=me&password={}",
    "mssql+pyodbc:///?odbc_connect=PWD%3D{}",
]


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    def test_form(self, form, state_folder, caplog):
        """The secret is in neither repr, attributes, replay options, pickle, state nor spool, and MLflow still gets it (S3)."""
        uri = form.format(CANARY)
        logger = MLflowLogger(uri, timeout=1)
        engine = engine_with(logger)
        logger.log_scalars({"a": 1.0}, 1)
        logger._delivery.save()
        shown = [
            repr(logger),
            repr(vars(logger)),
            str(logger.tracking_uri),
            repr(logger.replay_options()),
            repr(engine.state_dict()),
            caplog.text,
        ]
        assert CANARY not in "".join(shown)
        pickled = pickle.dumps(logger)
        assert CANARY.encode() not in pickled
        assert CANARY.encode() not in content(state_folder)
        if not uri.startswith("http://127"):
            # Copies within the process still know the secret.
            for each in (logger, copy.deepcopy(logger), pickle.loads(pickled)):
                assert each._complete_uri() == uri
        logger._delivery.abandon()

    @pytest.mark.parametrize("form", FORMS)
    def test_doctor(self, form, monkeypatch):
        """The finding of `glowplug doctor` does not contain the secret (S3)."""
        monkeypatch.setenv("MLFLOW_TRACKING_URI", form.format(CANARY))
        assert CANARY not in repr(check_tracking_server())

    @pytest.mark.parametrize("form", FORMS)
    def test_redact(self, form):
        """A message that contains the URI or the secret itself loses the secret (S3)."""
        uri = form.format(CANARY)
        for text in (f"no answer from {uri} today", f"'{uri}'"):
            assert CANARY not in redact(text)
        assert CANARY not in without_secrets(uri)

    @pytest.mark.parametrize(
        "form", ["http://me:{}@host", "postgresql://host/db?password={}", "https://{}@host"]
    )
    def test_redact_alone(self, form):
        """A message that contains the secret of a known URI alone loses the secret (S3)."""
        assert redact(f"wrong password {CANARY}", form.format(CANARY)) == "wrong password ***"


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"])
def test_secret_in_the_environment(variable, end, monkeypatch, caplog, state_folder):
    """A token or password of the environment is in no log, exception, state or spool, even if the server repeats it (S3)."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(variable, CANARY + end)
    if "PASSWORD" in variable:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    logger = MLflowLogger("http://127.0.0.1:9", timeout=1)
    engine = engine_with(logger)
    engine.run([1])
    with pytest.raises(ConnectionError) as caught:
        logger.run_id  # noqa: B018 - the look-up is the test
    state = repr(engine.state_dict())
    logger.close()
    assert CANARY not in caplog.text + chain(caught.value) + state
    assert CANARY.encode() not in content(state_folder)
    assert redact(f"the token {CANARY} is wrong") == "the token *** is wrong"
    assert redact(f"the token {CANARY + end!r} is wrong").count(CANARY) == 0


def test_encoded_credentials_of_the_environment(monkeypatch):
    """A message that repeats the header with the user and password of the environment loses both (S3)."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", CANARY)
    header = base64.b64encode(f"me:{CANARY}".encode()).decode()
    assert redact(f"refused: Basic {header}") == "refused: Basic ***"


def test_credentials_beside_an_address_without_them(monkeypatch):
    """A logger uses the credentials of its URI if the environment has the URI of the same server without them (S3)."""
    uri = f"https://me:{CANARY}@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://127.0.0.1:9")
    logger = MLflowLogger(uri)
    for each in (logger, copy.deepcopy(logger), pickle.loads(pickle.dumps(logger))):
        assert each._complete_uri() == uri
    logger.close()


def test_http_query_is_reported(caplog):
    """The query of an HTTP address, which MLflow cannot send, is ignored and reported."""
    logger = MLflowLogger(f"http://127.0.0.1:9/mlflow?api_key={CANARY}")
    assert logger.tracking_uri == "http://127.0.0.1:9/mlflow"
    assert (
        "api_key=*** is used without its query, because MLflow cannot send a query; to authenticate, set MLFLOW_TRACKING_TOKEN"
        in caplog.text
    )
