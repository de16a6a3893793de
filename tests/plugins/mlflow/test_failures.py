"""The table of failures: what happens to a record after each exception of MLflow and of the libraries below it."""

import errno
import http.server
import sqlite3
import threading
from contextlib import closing

import mlflow
import pytest
import requests
import sqlalchemy
import urllib3
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException, RestException

from glowplug_mlflow.failures import TABLE, Verdict, rule_of, translate
from glowplug_mlflow.time_limits import limited

RETRY, DROP, PERSON = Verdict.RETRY, Verdict.DROP, Verdict.PERSON


def raised(call):
    """Return the exception of a call, with its cause."""
    try:
        with limited():
            call()
    except Exception as error:
        return error
    raise AssertionError("no exception was raised")


@pytest.fixture
def answer():
    """A server whose answer to each request is a status code and a text."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status, body = 200, ""

        def respond(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(Handler.status)
            self.send_header("Content-Length", str(len(Handler.body)))
            self.end_headers()
            self.wfile.write(Handler.body.encode())

        do_GET = do_POST = do_PUT = respond  # noqa: N815 - names of http.server

        def log_message(self, *_):
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        Handler.uri = f"http://127.0.0.1:{server.server_port}"
        yield Handler
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (401, "You are not authenticated.", PERSON),
        (401, '{"error_code": "CUSTOMER_UNAUTHORIZED", "message": "no"}', PERSON),
        (401, '{"error_code": "UNAUTHENTICATED", "message": "no"}', PERSON),
        (403, "Permission denied", PERSON),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', PERSON),
        (404, "default backend", PERSON),
        (200, "<html>Please log in</html>", RETRY),
        (408, "", RETRY),
        (425, "", RETRY),
        (429, "", RETRY),
        (429, '{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow"}', RETRY),
        (500, "", RETRY),
        (500, '{"error_code": "INTERNAL_ERROR", "message": "oops"}', RETRY),
        (502, "", RETRY),
        (503, '{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "later"}', RETRY),
        (504, "", RETRY),
        (400, "bad", DROP),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad"}', DROP),
        (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}', DROP),
        (413, "<html>413 Request Entity Too Large</html>", DROP),
    ],
)
def test_answers_to_metrics(answer, status, body, verdict):
    """Each answer of a server to a request with metrics has the verdict of the table."""
    answer.status, answer.body = status, body
    client = MlflowClient(answer.uri)
    error = raised(lambda: client.log_batch("0" * 32, metrics=[Metric("a", 1.0, 0, 1)], synchronous=True))
    assert isinstance(error, MlflowException)
    assert rule_of(error).verdict is verdict


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (401, PERSON),
        (403, DROP),
        (404, DROP),
        (413, DROP),
        (429, RETRY),
        (500, RETRY),
        (503, RETRY),
        (507, RETRY),
    ],
)
def test_answers_to_uploads(answer, status, verdict, tmp_path):
    """A refused upload is final for its record, unless the server fails or needs credentials."""
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    (tmp_path / "model.bin").write_bytes(b"weights")
    answer.status = status
    repository = HttpArtifactRepository(f"{answer.uri}/artifacts")
    assert rule_of(raised(lambda: repository.log_artifact(str(tmp_path / "model.bin")))).verdict is verdict


def test_no_server():
    """A refused connection and a time-out pass, through MLflow, requests and urllib3."""
    metrics = [Metric("a", 1.0, 0, 1)]
    closed = "http://127.0.0.1:9"
    pool = urllib3.PoolManager(retries=False)
    for call in (
        lambda: MlflowClient(closed).log_batch("0" * 32, metrics=metrics, synchronous=True),
        lambda: requests.put(closed, timeout=1),
        lambda: pool.request("GET", closed, timeout=1),
        lambda: requests.get("http://name.invalid", timeout=1),
    ):
        assert rule_of(raised(call)).verdict is RETRY


class TestDatabase:
    @pytest.fixture
    def store(self, database):
        """A client of a database with one run, and the path of the database."""
        client = MlflowClient(f"sqlite:///{database}")
        return client, client.create_run("0").info.run_id, database

    def test_locked(self, store):
        """A locked database passes."""
        client, run_id, path = store
        engine = client._tracking_client.store.engine

        @sqlalchemy.event.listens_for(engine, "before_cursor_execute", retval=True)
        def do_not_wait(connection, cursor, statement, parameters, *_):
            return statement.replace("busy_timeout = 20000", "busy_timeout = 1"), parameters

        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = raised(lambda: client.log_metric(run_id, "a", 1.0, synchronous=True))
            other.execute("ROLLBACK")
        assert "locked" in str(error)
        assert rule_of(error).verdict is RETRY

    def test_full_disk(self, store):
        """A full disk passes."""
        client, run_id, _ = store
        engine = client._tracking_client.store.engine

        @sqlalchemy.event.listens_for(engine, "before_cursor_execute")
        def no_more_pages(connection, cursor, *_):
            (count,) = cursor.execute("PRAGMA page_count").fetchone()
            cursor.execute(f"PRAGMA max_page_count = {count}")

        params = [Param(f"p{number}", "x" * 5000) for number in range(90)]
        error = raised(lambda: client.log_batch(run_id, params=params, synchronous=True))
        assert "full" in str(error)
        assert rule_of(error).verdict is RETRY

    def test_damaged(self, store):
        """A damaged database needs a person."""
        client, run_id, path = store
        client._tracking_client.store.engine.dispose()
        path.write_bytes(b"no database" * 1000)
        assert (
            rule_of(raised(lambda: client.log_metric(run_id, "a", 1.0, synchronous=True))).verdict is PERSON
        )

    def test_value_out_of_range(self, store):
        """A step that the database cannot store is final for its record, although MLflow calls it an internal error."""
        client, run_id, _ = store
        error = raised(lambda: client.log_metric(run_id, "a", 1.0, step=2**63, synchronous=True))
        assert error.error_code == "INTERNAL_ERROR"
        assert rule_of(error).verdict is DROP

    def test_changed_parameter(self, store):
        """A changed parameter is final."""
        client, run_id, _ = store
        client.log_param(run_id, "lr", 0.1, synchronous=True)
        assert rule_of(raised(lambda: client.log_param(run_id, "lr", 0.2, synchronous=True))).verdict is DROP


def sqlalchemy_error(name):
    """Return the exception that MLflow makes of an error of SQLAlchemy."""
    cause = getattr(sqlalchemy.exc, name)
    cause = cause("lost") if name == "TimeoutError" else cause("INSERT", {}, sqlite3.Error("lost"))
    error = MlflowException("lost", error_code=mlflow.protos.databricks_pb2.BAD_REQUEST)
    error.__cause__ = cause
    return error


class StorageError(Exception):
    """An error of the storage of artifacts in a cloud."""

    def __init__(self, **attributes):
        super().__init__("refused")
        vars(self).update(attributes)


def s3(status):
    """Return an error like the ones of boto3's client."""
    return StorageError(response={"ResponseMetadata": {"HTTPStatusCode": status}})


def s3_class(name, *bases):
    """Return a class with the name of a class of boto3 or botocore, which the tests do not install."""
    module, _, short = name.rpartition(".")
    return type(short, bases or (Exception,), {"__module__": module})


BotoConnectionError = s3_class("botocore.exceptions.ConnectionError")


def failed_s3_upload(status):
    """Return the error that boto3's ``upload_file`` makes of an answer of S3."""
    error = s3_class("boto3.exceptions.S3UploadFailedError")(f"Failed to upload: {status}")
    error.__context__ = s3(status)
    return error


def bad_request(message):
    """Return the error for a record whose request failed in the server's database."""
    return RestException({"error_code": "BAD_REQUEST", "message": message})


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        *((sqlalchemy_error(name), RETRY) for name in ("InterfaceError", "InternalError", "TimeoutError")),
        *((sqlalchemy_error(name), DROP) for name in ("DataError", "IntegrityError", "ProgrammingError")),
        (sqlalchemy_error("DatabaseError"), PERSON),
        (sqlite3.OperationalError("database is locked"), RETRY),
        (sqlite3.IntegrityError("UNIQUE"), DROP),
        (sqlite3.DatabaseError("malformed"), PERSON),
        (FileNotFoundError(errno.ENOENT, "gone"), DROP),
        (PermissionError(errno.EACCES, "no"), DROP),
        (IsADirectoryError(errno.EISDIR, "folder"), DROP),
        (OSError(errno.ENAMETOOLONG, "long"), DROP),
        (OSError("cannot write mode F as PNG"), DROP),
        (OSError(errno.ENOSPC, "full"), RETRY),
        (OSError(errno.EDQUOT, "quota"), RETRY),
        (OSError(errno.EIO, "disk"), RETRY),
        (OSError(errno.EHOSTUNREACH, "route"), RETRY),
        (ConnectionResetError(errno.ECONNRESET, "reset"), RETRY),
        (TimeoutError("slow"), RETRY),
        (urllib3.exceptions.ProtocolError("broken"), RETRY),
        (requests.exceptions.ChunkedEncodingError("broken"), RETRY),
        (requests.exceptions.MissingSchema("no scheme"), DROP),
        (RestException({"error_code": "ABORTED", "message": "conflict"}), RETRY),
        (bad_request("(sqlite3.DatabaseError) database disk image is malformed\n[SQL: x]"), PERSON),
        (bad_request("(psycopg2.DatabaseError) SSL SYSCALL error: EOF detected\n[SQL: x]"), PERSON),
        (bad_request("(psycopg2.errors.ReadOnlySqlTransaction) cannot execute INSERT\n[SQL: x]"), RETRY),
        (bad_request("(psycopg.errors.InFailedSqlTransaction) aborted\n[SQL: x]"), RETRY),
        (bad_request("(psycopg2.InterfaceError) connection already closed\n[SQL: x]"), RETRY),
        (bad_request("(raised as a result of autoflush)\n(pymysql.err.InternalError) lost\n[SQL: x]"), RETRY),
        (bad_request("QueuePool limit of size 5 overflow 10 reached, connection timed out"), RETRY),
        (bad_request("(sqlite3.IntegrityError) UNIQUE constraint failed\n[SQL: x]"), DROP),
        (bad_request("(psycopg2.errors.StringDataRightTruncation) too long\n[SQL: x]"), DROP),
        (bad_request("(a.DataError) 'x'\n[SQL: x]\n[parameters: (psycopg2.InterfaceError)]"), DROP),
        (bad_request("invalid name (sqlite3.DatabaseError)"), DROP),
        (s3(403), DROP),
        (s3(503), RETRY),
        (failed_s3_upload(503), RETRY),
        (failed_s3_upload(403), DROP),
        (s3_class("botocore.exceptions.EndpointConnectionError", BotoConnectionError)("no route"), RETRY),
        (StorageError(status_code=413), DROP),
        (StorageError(code=429), RETRY),
        (ValueError("odd"), DROP),
        (RuntimeError("odd"), DROP),
        (MemoryError(), DROP),
    ],
    ids=lambda value: value.name if isinstance(value, Verdict) else f"{type(value).__name__} {value}"[:40],
)
def test_other_exceptions(error, verdict):
    """Each exception has the verdict of the table, and a translation whose type tells the queue what to do."""
    assert rule_of(error).verdict is verdict
    translated = translate(error, None)
    assert isinstance(translated, RuntimeError if verdict is DROP else ConnectionError)
    assert rule_of(error).remedy in str(translated)


def test_rows_for_people():
    """A row says what to do if and only if a person has to do something."""
    assert [bool(rule.remedy) for rule in TABLE] == [rule.verdict is PERSON for rule in TABLE]


def test_credentials_are_named():
    """The report of refused credentials says which variables to set."""
    error = RestException({"error_code": "UNAUTHENTICATED", "message": "no"})
    text = str(translate(error, None))
    assert (
        "The server refuses the credentials; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        in text
    )
