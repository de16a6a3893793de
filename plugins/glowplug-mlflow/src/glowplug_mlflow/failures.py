"""Classify failed requests to MLflow, and translate their exceptions for the delivery queue.

A translated exception contains no secrets. The type of the translated exception tells the delivery queue what to do. After a
``ConnectionError``, the record waits and is sent again. After a ``RuntimeError``, the record is dropped.
"""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from glowplug_mlflow.redaction import redact
from glowplug_mlflow.time_limits import limited

Method = TypeVar("Method", bound=Callable[..., Any])

CREDENTIALS_REMEDY = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; records wait until then"


class Verdict(Enum):
    """What happens to a record if the request that sends it fails."""

    RETRY = "the failure passes; the record is sent again"
    DROP = "the record is refused; it is dropped"
    PERSON = "a person has to do something; the record waits"


class Facts(NamedTuple):
    """Facts about a failed request, taken from its exception.

    Attributes:
        status: HTTP status code of the server's response; ``None`` if there is none.
        code: MLflow's error code, such as ``"INTERNAL_ERROR"``; ``None`` if there is none.
        number: ``errno`` of an ``OSError``; ``None`` for any other exception.
        types: Names of the exception's class and its base classes, such as ``"builtins.OSError"``.
        cause: Names of the classes of the exception that MLflow translated, in this process or in the server; empty if there is
            none.
    """

    status: int | None
    code: str | None
    number: int | None
    types: tuple[str, ...]
    cause: tuple[str, ...]


class Rule(NamedTuple):
    """Row of ``TABLE``: a kind of failure, and what happens to the record."""

    what: str
    verdict: Verdict
    applies: Callable[[Facts], bool]
    remedy: str = ""


_PASSING_STATUS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
# MLflow also uses INTERNAL_ERROR for connections that fail and for status codes that it does not know.
_PASSING_CODES = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "CANCELLED",
    "IO_ERROR",
}
_PASSING_NUMBERS = {
    *(
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ESTALE,
        errno.EMFILE,
        errno.ENFILE,
    ),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOBUFS, errno.ENOMEM),
}
_PASSING_TYPES = {
    "builtins.ConnectionError",
    "builtins.TimeoutError",
    "socket.gaierror",
    "ssl.SSLError",
    "requests.exceptions.RequestException",
    "urllib3.exceptions.HTTPError",
    "sqlite3.OperationalError",
    # Storage of artifacts in a cloud.
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "azure.core.exceptions.ServiceRequestError",
    "azure.core.exceptions.ServiceResponseError",
    "google.auth.exceptions.TransportError",
    "google.api_core.exceptions.RetryError",
}
_PASSING_DATABASE_ERRORS = {
    f"sqlalchemy.exc.{name}"
    for name in ("OperationalError", "InterfaceError", "InternalError", "TimeoutError")
}
# Subclasses of psycopg's InternalError that a failover raises. A server sends only their names.
_INTERNAL_ERRORS = {"ReadOnlySqlTransaction", "InFailedSqlTransaction"}
_DAMAGED_DATABASE = {"sqlalchemy.exc.DatabaseError", "sqlite3.DatabaseError"}
_INVALID_ADDRESS = {
    f"requests.exceptions.{name}" for name in ("InvalidURL", "MissingSchema", "InvalidSchema")
}
_BAD_VALUE = {
    f"builtins.{name}"
    for name in ("ValueError", "TypeError", "ArithmeticError", "LookupError", "AttributeError")
}

# The first row that applies decides. Subclasses of DatabaseError have separate rows or concern one record.
TABLE = (
    Rule(
        "the server refuses the credentials",
        Verdict.PERSON,
        lambda facts: (
            facts.status == HTTPStatus.UNAUTHORIZED
            or facts.code in {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
        ),
        CREDENTIALS_REMEDY,
    ),
    Rule(
        "the user may not write to the run",
        Verdict.PERSON,
        lambda facts: facts.code == "PERMISSION_DENIED",
        "ask for the permission EDIT for the experiment; records wait until then",
    ),
    Rule(
        "the address is not that of an MLflow server",
        Verdict.PERSON,
        lambda facts: facts.code == "ENDPOINT_NOT_FOUND",
        "check the tracking URI; records wait until the server responds",
    ),
    Rule(
        "the server is overloaded or out of order",
        Verdict.RETRY,
        lambda facts: facts.status is not None and (facts.status in _PASSING_STATUS or facts.status >= 500),  # noqa: PLR2004
    ),
    Rule(
        "the server refuses a record, such as an upload", Verdict.DROP, lambda facts: facts.status is not None
    ),
    Rule(
        "the database is locked, full, or cannot be reached",
        Verdict.RETRY,
        lambda facts: not _PASSING_DATABASE_ERRORS.isdisjoint(facts.cause[:1]),
    ),
    Rule(
        "the database is damaged",
        Verdict.PERSON,
        lambda facts: bool({*facts.cause[:1], *facts.types[:1]} & _DAMAGED_DATABASE),
        "repair or replace the database; records wait until then",
    ),
    Rule(
        "the database refuses a value",
        Verdict.DROP,
        lambda facts: not _BAD_VALUE.isdisjoint(facts.cause) and not _is_network(facts.cause),
    ),
    Rule("the connection or the server fails", Verdict.RETRY, lambda facts: facts.code in _PASSING_CODES),
    Rule("MLflow refuses a record", Verdict.DROP, lambda facts: facts.code is not None),
    Rule(
        "the disk is full, or the network is down",
        Verdict.RETRY,
        lambda facts: facts.number in _PASSING_NUMBERS,
    ),
    Rule(
        "the address of the artifacts is invalid",
        Verdict.DROP,
        lambda facts: not _INVALID_ADDRESS.isdisjoint(facts.types),
    ),
    Rule("the connection fails", Verdict.RETRY, lambda facts: _is_network(facts.types)),
    Rule("the record cannot be sent", Verdict.DROP, lambda _: True),
)


def _is_network(types: tuple[str, ...]) -> bool:
    return not _PASSING_TYPES.isdisjoint(types)


def rule_of(error: BaseException) -> Rule:
    """Return the first row of ``TABLE`` that applies to an exception.

    Example:
        >>> [rule_of(error()).verdict.name for error in (TimeoutError, FileNotFoundError, ValueError)]
        ['RETRY', 'DROP', 'DROP']
    """
    facts = Facts(
        _status_of(error),
        getattr(error, "error_code", None),
        getattr(error, "errno", None) if isinstance(error, OSError) else None,
        _types_of(error),
        _cause_of(error),
    )
    return next(rule for rule in TABLE if rule.applies(facts))


def _types_of(error: BaseException | None) -> tuple[str, ...]:
    return (
        ()
        if error is None
        else tuple(f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__)
    )


# SQLAlchemy's messages start with the class of the driver's exception, such as "(psycopg2.errors.DiskFull)".
_DATABASE_ERROR = re.compile(
    r"BAD_REQUEST: (?:\(raised as a result of [^)]*\)\s*)?(?:\((?:\w+\.)+(\w+)\)|(QueuePool) limit)"
)


def _cause_of(error: BaseException) -> tuple[str, ...]:
    """Return the names of the classes of the exception that MLflow translated.

    A server sends only a message about an error of its database. The name of the error in this message is returned as the
    name of SQLAlchemy's class.
    """
    if error.__cause__ is not None:
        return _types_of(error.__cause__)
    found = _DATABASE_ERROR.match(str(error)) if hasattr(error, "error_code") else None
    if found is None:
        return ()
    name = "TimeoutError" if found[2] else found[1]
    return (f"sqlalchemy.exc.{'InternalError' if name in _INTERNAL_ERRORS else name}",)


_STATUS = re.compile(r"failed with error code (\d{3})\b")


def _status_of(error: BaseException) -> int | None:
    """Return the HTTP status code of the server's response, or ``None`` if the exception has none."""
    if "boto3.exceptions.S3UploadFailedError" in _types_of(error) and error.__context__ is not None:
        # It has the response only in its message.
        error = error.__context__
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        # S3
        response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    # Servers of MLflow, Azure, Google Cloud.
    for status in (
        response,
        getattr(response, "status_code", None),
        *(getattr(error, name, None) for name in ("status_code", "code")),
    ):
        if isinstance(status, int):
            return int(status)
    found = _STATUS.search(str(error)) if hasattr(error, "error_code") else None
    return int(found[1]) if found else None


def reported(method: Method) -> Method:
    """Decorate a logger method that sends requests: apply time limits, and translate exceptions.

    The translated exception is not chained to the original exception, because messages of the chain may contain a password.

    Example:
        >>> class Example:
        ...     def _complete_uri(self):
        ...         return "http://me:secret@127.0.0.1"
        ...
        ...     @reported
        ...     def call(self):
        ...         raise TimeoutError("http://me:secret@127.0.0.1 does not answer")
        >>> Example().call()
        Traceback (most recent call last):
        ConnectionError: TimeoutError: http://***@127.0.0.1 does not answer
    """

    @functools.wraps(method)
    def translated(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            with limited():
                return method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - MLflow raises the exceptions of its transports
            failure = translate(error, self._complete_uri())
        # Raised outside the except block, so that the original is not attached as context.
        raise failure

    return translated  # type: ignore[return-value]


def translate(error: Exception, uri: str | None) -> Exception:
    """Translate an exception into the ``RuntimeError`` or ``ConnectionError`` that the delivery queue expects.

    Args:
        error: Exception of MLflow or of a library that it uses.
        uri: Tracking URI, whose password is replaced with ``***`` in the message.
    """
    rule = rule_of(error)
    name = type(error).__name__
    # The delivery queue names the type of a translated exception.
    kind = (
        ""
        if name in ("RuntimeError", "ConnectionError")
        else f"{name} {getattr(error, 'error_code', '')}".rstrip() + ": "
    )
    text = redact(f"{kind}{error}", uri)
    if rule.remedy:
        text = f"{text}. {rule.what[0].upper()}{rule.what[1:]}; {rule.remedy}"
    return RuntimeError(text) if rule.verdict is Verdict.DROP else ConnectionError(text)
