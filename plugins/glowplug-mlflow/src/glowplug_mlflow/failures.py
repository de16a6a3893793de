"""Translation of MLflow's exceptions.

The translated exceptions contain no secrets, and their type shows whether a retry can help.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

Method = TypeVar("Method", bound=Callable[..., Any])

CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"]+@")
SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

# Codes of temporary failures of the server or network. All other codes mean that the request is invalid.
TEMPORARY = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "IO_ERROR",
}


def redact(text: str, tracking_uri: str | None = None) -> str:
    """Replace the credentials in a text with ``***``.

    Args:
        text: Text that may contain URIs with ``user:password@``, or passwords and tokens from environment variables.
        tracking_uri: URI whose password is replaced as well.

    Example:
        >>> redact("no answer from https://me:secret@mlflow.example")
        'no answer from https://***@mlflow.example'
    """
    text = CREDENTIALS.sub("***@", text)
    password = urlsplit(tracking_uri).password if tracking_uri else None
    known = [password, unquote(password or ""), *(os.environ.get(name) for name in SECRET_VARIABLES)]
    for secret in filter(None, known):
        text = text.replace(secret, "***")
    return text


def reported(method: Method) -> Method:
    """Decorate a logger method so that its exceptions contain no secrets.

    A temporary failure raises a ConnectionError; any other failure raises a RuntimeError. The original exception is not
    chained, because its message and causes may contain the password of the tracking URI.

    Example:
        >>> class Example:
        ...     tracking_uri = "http://me:secret@127.0.0.1"
        ...
        ...     @reported
        ...     def call(self):
        ...         raise OSError("http://me:secret@127.0.0.1 refused")
        >>> Example().call()
        Traceback (most recent call last):
        ConnectionError: OSError: http://***@127.0.0.1 refused
    """

    @functools.wraps(method)
    def translated(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - MLflow raises the exceptions of its transports
            failure = _translated(error, self.tracking_uri)
        # Raised outside the except block, so that the original is not attached as context.
        raise failure

    return translated  # type: ignore[return-value]


def _translated(error: Exception, tracking_uri: str | None) -> Exception:
    code = getattr(error, "error_code", None)
    name = type(error).__name__ if code is None else f"{type(error).__name__} {code}"
    text = redact(f"{name}: {error}", tracking_uri)
    is_temporary = isinstance(error, OSError) if code is None else code in TEMPORARY
    return ConnectionError(text) if is_temporary else RuntimeError(text)
