"""Size and time limits of requests to MLflow.

The module ``failures`` decides which failures are temporary. The delivery queue of ``glowplug.loggers`` retries a request
only after a temporary failure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

MAX_METRICS = 1000
# This limit also applies to tags.
MAX_PARAMS = 100
# MLflow refuses requests above 1,000,000 bytes, field names and run id included.
MAX_BYTES = 900_000
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
# Bytes of field names, numbers and punctuation in the JSON of one metric, parameter or tag.
OVERHEAD = 150

# MLflow's defaults, a timeout of 120 s and seven retries with pauses of up to 64 s, are too long, because the delivery queue
# retries as well.
BOUNDS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # The URL may contain a password.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def slices(items: Iterable[tuple[str, str, T]], most: int) -> Iterator[list[T]]:
    """Split items into requests that do not exceed MLflow's size limits.

    Args:
        items: Tuples ``(name, text, object)``. ``object`` is sent, and ``text`` is ``""`` if the value is a number.
        most: Maximum number of items in a request.

    Example:
        >>> [len(part) for part in slices([("a", "", 1), ("b", "", 2), ("c", "", 3)], most=2)]
        [2, 1]
    """
    part: list[T] = []
    size = 0
    for name, text, item in items:
        length = OVERHEAD + len(json.dumps(name)) + len(json.dumps(text))
        if part and (len(part) == most or size + length > MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += length
    if part:
        yield part


def bound_requests() -> list[str]:
    """Limit the timeout and the retries of MLflow's requests, unless the user has set these limits.

    Returns:
        The names of the environment variables that this function set.

    Example:
        >>> names = bound_requests()
        >>> unbound_requests(names)
    """
    names = [name for name in BOUNDS if name not in os.environ]
    os.environ.update({name: BOUNDS[name] for name in names})
    return names


def unbound_requests(names: Iterable[str]) -> None:
    """Remove the limits that :func:`bound_requests` has set.

    Args:
        names: Result of :func:`bound_requests`.
    """
    for name in names:
        os.environ.pop(name, None)
