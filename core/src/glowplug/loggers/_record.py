"""Records that a logger queues for its backend."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["scalars", "params", "text", "histogram", "image", "figure", "artifact"]
"""Kind of a record: ``log_<kind>`` creates the record, and ``write_<kind>`` writes it."""

KINDS: tuple[Kind, ...] = ("scalars", "params", "text", "histogram", "image", "figure", "artifact")


class Record(NamedTuple):
    """Data of one call of a ``log_*`` method.

    Attributes:
        number: Sequence number of the record; it increases with each call and continues in resumed runs.
        kind: Kind of the record, which selects the ``write_*`` method.
        name: Name of the text, image, figure or histogram; for an artifact, its destination folder. Scalars and parameters
            have the name ``None``.
        step: Epoch or iteration; ``None`` for parameters and artifacts.
        timestamp: Time of the call as Unix time in seconds.
        payload: The logged data. A tensor on an accelerator is copied to the host before it is written.

    Example:
        >>> Record(1, "scalars", None, 20, 0.0, {"loss": 0.5}).label
        'scalars loss at step 20'
    """

    number: int
    kind: Kind
    name: str | None
    step: int | None
    timestamp: float
    payload: Any

    @property
    def label(self) -> str:
        """Kind, names and step of the record, as text for messages."""
        names = ", ".join(self.payload) if self.kind == "scalars" else self.name or ""
        step = "" if self.step is None else f" at step {self.step}"
        return f"{self.kind} {names}".rstrip() + step
