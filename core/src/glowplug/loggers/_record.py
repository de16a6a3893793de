"""Records: what a logger queues for its backend."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["scalars", "params", "text", "histogram", "image", "figure", "artifact"]
"""Kind of a record: ``log_<kind>`` makes it, and ``write_<kind>`` writes it."""

KINDS: tuple[Kind, ...] = ("scalars", "params", "text", "histogram", "image", "figure", "artifact")


class Record(NamedTuple):
    """One call of a ``log_*`` method, as plain data.

    Attributes:
        number: Sequence number of the record; it grows with each call, also over resumed runs.
        kind: Which ``write_*`` method takes the record.
        name: Name of the text, image, figure or histogram; folder of an artifact; ``None`` for scalars and parameters.
        step: Epoch or iteration; ``None`` for parameters and artifacts.
        timestamp: Time of the call, in seconds since the epoch.
        payload: Numbers, texts and arrays; a tensor on a device is copied to the host by the time it is written.
    """

    number: int
    kind: Kind
    name: str | None
    step: int | None
    timestamp: float
    payload: Any
