"""The limits of one request to MLflow: how much it holds, and how long it may take."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

MAX_METRICS = 1000
MAX_PARAMS = 100  # and tags
MAX_BYTES = 900_000  # MLflow refuses more than 1,000,000, names of fields and the run's id included
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
OVERHEAD = 150  # of one metric, parameter or tag as JSON: names of fields, numbers, punctuation

# MLflow's own are 120 s, seven times, with pauses of up to 64 s. Trying again later is glowplug's business.
BOUNDS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a library does not print, least of all a password
}


def slices(items: Iterable[tuple[str, str, T]], most: int) -> Iterator[list[T]]:
    """Cut what is to be sent into requests that MLflow takes.

    Args:
        items: name, further text (or ``""``), and what is sent for them.
        most: how many of these one request may hold.

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
    """Bound MLflow's requests, where the user has not done so, and return the names of the variables that were set.

    Example:
        >>> names = bound_requests()
        >>> unbound_requests(names)
    """
    names = [name for name in BOUNDS if name not in os.environ]
    os.environ.update({name: BOUNDS[name] for name in names})
    return names


def unbound_requests(names: Iterable[str]) -> None:
    """Take back what :func:`bound_requests` did.

    Args:
        names: what it returned.
    """
    for name in names:
        os.environ.pop(name, None)
