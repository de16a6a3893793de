"""What MLflow raises, made fit to be reported: without secrets, and told apart by whether trying again can help."""

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

# The server, or the way to it, is at fault for now; all other codes are the request's own fault.
PASSING = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "IO_ERROR",
}


def redact(text: str, tracking_uri: str | None = None) -> str:
    """Return a text without ``user:password@`` in its URIs, and without the passwords that are known.

    Args:
        text: any text.
        tracking_uri: whose password is known.

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
    """Decorate a method of a logger: what it raises has no secrets, and is a ConnectionError if it may pass.

    The original exception is left behind: its text, and those of its causes, hold the tracking URI.

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
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - MLflow raises what its transports raise
            failure = _translated(error, self.tracking_uri)
        raise failure  # out here, so that the original is not attached to it

    return guarded  # type: ignore[return-value]  # takes and returns what the method does


def _translated(error: Exception, tracking_uri: str | None) -> Exception:
    code = getattr(error, "error_code", None)
    name = type(error).__name__ if code is None else f"{type(error).__name__} {code}"
    text = redact(f"{name}: {error}", tracking_uri)
    passes = isinstance(error, OSError) if code is None else code in PASSING
    return ConnectionError(text) if passes else RuntimeError(text)
