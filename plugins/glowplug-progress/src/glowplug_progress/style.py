"""What a style of bars, such as tqdm or rich, provides to the handlers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Role = Literal["title", "plain", "best", "time"]


class Span(NamedTuple):
    """A part of a line and its role, which determines its color."""

    text: str
    role: Role = "plain"


@dataclass(frozen=True)
class BarSettings:
    """Everything that a style needs to open a bar.

    Args:
        title: Text before the bar.
        unit: Abbreviation of the unit in a rate, such as ``it``.
        total: Expected number of units; ``None`` if it is unknown.
        done: Number of units that are already completed.
        text: Function that returns the text after the bar; it is called only when the bar is redrawn.
        is_nested: Whether the engine runs inside another engine of the same handler; such a bar leaves no line.
        is_hidden: Whether to show nothing, as on every rank but 0.
    """

    title: str
    unit: str
    total: int | None
    done: int
    text: Callable[[], str]
    is_nested: bool = False
    is_hidden: bool = False


class Bar(Protocol):
    """An open bar."""

    n: int
    total: float | None

    def update(self, n: int) -> object:
        """Advance the bar, and redraw it if the last redraw was long enough ago."""

    def follow(self, total: int | None) -> None:
        """Set a new total, because the previous total may have been an estimate."""

    def refresh(self) -> object:
        """Redraw the bar now."""

    def close(self) -> None:
        """Close the bar."""


class Style(Protocol):
    """A library that draws bars and prints lines above them."""

    has_fixed_total: bool
    """Whether the user has given the total of all bars."""

    def open_bar(self, settings: BarSettings) -> Bar:
        """Open a bar."""

    def print_message(self, message: str) -> None:
        """Print a line of the user above the open bars."""

    def print_spans(self, spans: Sequence[Span]) -> None:
        """Print a line above the open bars, on the screen on which the style draws bars."""
