"""Size limits of requests to MLflow."""

from __future__ import annotations

import json
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
