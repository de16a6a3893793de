"""Time limits of the requests that a logger sends to MLflow.

MLflow reads its time limits from environment variables, which apply to all calls of MLflow in a program. A logger needs shorter
limits for its own requests only. Therefore, this module replaces the limits that MLflow reads, but only on the thread that sends
such a request.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

# MLflow's defaults, a timeout of 120 s and seven retries with pauses of up to 64 s, are too long, because the delivery queue
# retries as well.
LIMITS: Mapping[str, object] = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": 10,
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 1,
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": 1,
    # A server may ask for a pause of an hour.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": False,
    # The URL may contain a password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": True,
}
# A server may need minutes to store a large file before it answers.
UPLOAD_LIMITS = {**LIMITS, "MLFLOW_HTTP_REQUEST_TIMEOUT": 600}


# For requests that must not be repeated at once, because a repetition would create a second run. Applies even if the user has set
# another limit.
NO_RETRIES: Mapping[str, object] = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": 0}


class _Current(threading.local):
    limits: Mapping[str, object] | None = None
    fixed: Mapping[str, object] = MappingProxyType({})


_current = _Current()


@contextmanager
def limited(limits: Mapping[str, object] = LIMITS) -> Iterator[None]:
    """Apply time limits to the requests of the calling thread; limits that the user has set take precedence.

    Example:
        >>> from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
        >>> with limited():
        ...     MLFLOW_HTTP_REQUEST_TIMEOUT.get()
        10
        >>> MLFLOW_HTTP_REQUEST_TIMEOUT.get()
        120
    """
    _install()
    before, _current.limits = _current.limits, limits
    try:
        yield
    finally:
        _current.limits = before


@contextmanager
def without_retries() -> Iterator[None]:
    """Send each request of the calling thread only once, within :func:`limited`."""
    before, _current.fixed = _current.fixed, NO_RETRIES
    try:
        yield
    finally:
        _current.fixed = before


@functools.cache
def _install() -> None:
    from mlflow import environment_variables

    for name in LIMITS:
        variable = getattr(environment_variables, name)
        variable.get = _getter(variable, variable.get)


def _getter(variable: Any, get: Callable[[], Any]) -> Callable[[], Any]:
    def limited_get() -> Any:
        limits = _current.limits
        if variable.name in _current.fixed:
            return _current.fixed[variable.name]
        return get() if limits is None or variable.is_set() else limits[variable.name]

    return limited_get
