"""Findings of ``glowplug doctor`` and ``glowplug plugins check``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["Finding", "FindingStatus"]

FindingStatus = Literal["ok", "warning", "error"]
"""How serious a finding is."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        name: What was checked, in a few words.
        status: ``"ok"``, ``"warning"`` or ``"error"``.
        message: What was found.
        remedy: How to fix the problem. Defaults to an empty string.

    Raises:
        ValueError: If ``status`` is not ``"ok"``, ``"warning"`` or ``"error"``, or if another field is not a string.

    Example:
        >>> Finding("tracking server", "error", "refused", remedy="start it: mlflow server").status
        'error'
    """

    name: str
    status: FindingStatus
    message: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "message", "remedy"):
            value = getattr(self, field)
            if not isinstance(value, str):
                raise ValueError(f"Finding {self.name!r}: {field} must be a string; got {value!r}")  # noqa: TRY004 one error type for a bad finding
        if self.status not in get_args(FindingStatus):
            raise ValueError(
                f"Finding {self.name!r}: status must be one of {', '.join(map(repr, get_args(FindingStatus)))};"
                f" got {self.status!r}"
            )
