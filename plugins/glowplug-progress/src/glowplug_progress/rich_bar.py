"""Bars that rich draws."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.text import Text

from glowplug_progress.rich_screen import RichScreen, screen_of
from glowplug_progress.style import BarSettings, Span

MINIMAL_INTERVAL = 0.1
# Seconds over which the rate is measured.
RATE_WINDOW = 30.0
STYLES = {"title": "bold", "plain": "", "best": "bold green", "time": "dim"}


class Rate:
    """Rate of a counter over the last seconds.

    Args:
        count: Value of the counter at the beginning.
        now: Time in seconds.

    Example:
        >>> rate = Rate(10, now=0.0)
        >>> rate.follow(20, now=4.0)
        >>> rate.per_second
        2.5
    """

    def __init__(self, count: int, now: float) -> None:
        self._samples = deque([(now, count)])

    def follow(self, count: int, now: float) -> None:
        """Add the current value of the counter."""
        self._samples.append((now, count))
        while len(self._samples) > 2 and self._samples[1][0] < now - RATE_WINDOW:  # noqa: PLR2004 - a rate needs two samples
            self._samples.popleft()

    @property
    def per_second(self) -> float | None:
        """The rate; ``None`` as long as the counter has not changed."""
        (begin, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - begin) if last > first and end > begin else None


class RichBar:
    """A bar on a screen of rich, whose values are read only when the screen is drawn.

    Args:
        settings: What the bar shows.
        screen: Screen on which the bar appears; ``None`` to show nothing.
        interval: Seconds between two redraws.
        persists: Whether the last state of the bar stays on the screen.
    """

    def __init__(
        self, settings: BarSettings, screen: RichScreen | None, *, interval: float, persists: bool
    ) -> None:
        self.n = settings.done
        self.total: float | None = settings.total
        self._settings = settings
        self._screen = screen
        self._interval = interval
        self._persists = persists
        if screen is not None:
            self._begin = time.monotonic()
            self._rate = Rate(self.n, self._begin)
            self._read()
            screen.add(self)

    def update(self, n: int) -> None:
        """Advance the bar, and redraw it if the last redraw was long enough ago."""
        self.n += n
        if self._screen is not None and time.monotonic() >= self._due:
            self.refresh()

    def follow(self, total: int | None) -> None:
        """Set a new total, because the previous total may have been an estimate."""
        self.total = total

    def refresh(self) -> None:
        """Redraw the bar now."""
        if self._screen is not None:
            self._read()
            self._screen.draw()

    def close(self) -> None:
        """Close the bar."""
        screen, self._screen = self._screen, None
        if screen is None:
            return
        try:
            if self._persists:
                self._read()
                screen.print_row(self)
        finally:
            screen.remove(self)

    def cells(self, width: int, blocks: str) -> list[Text]:
        """Return the columns of the bar with the values of the last reading."""
        n, total, rate = self._shown
        elapsed = (self._read_at if n == total else time.monotonic()) - self._begin
        remaining = "" if total is None else f"<{'?' if not rate else format_time((total - n) / rate)}"
        return [
            Text(self._settings.title, style="bold"),
            draw_blocks(n, total, width, blocks),
            Text(f"{n}/{'?' if total is None else f'{total:.0f}'}", style="progress.download"),
            Text(format_time(elapsed) + remaining, style="progress.elapsed"),
            Text(format_rate(rate, self._settings.unit), style="progress.data.speed"),
            Text(self._text),
        ]

    def _read(self) -> None:
        """Read the values that :meth:`cells` shows; any thread that prints may call that method."""
        self._read_at = now = time.monotonic()
        self._due = now + self._interval
        self._text = self._settings.text()
        self._rate.follow(self.n, now)
        self._shown = self.n, self.total, self._rate.per_second


class RichStyle:
    r"""Style of bars that rich draws.

    Args:
        options: Options of the bars: ``console`` or ``file``, ``mininterval``, ``total`` and ``disable``.
        persist: Whether the last state of a closed bar stays on the screen.

    Example:
        >>> import io
        >>> file = io.StringIO()
        >>> style = RichStyle({"file": file}, persist=False)
        >>> bar = style.open_bar(BarSettings("Epoch [1/2]", "it", 100, 0, lambda: ""))
        >>> style.print_spans([Span("Epoch [1/2]", "title"), Span(" loss=0.5")])
        >>> bar.close()
        >>> file.getvalue()
        'Epoch [1/2] loss=0.5\n'
    """

    def __init__(self, options: dict[str, Any], *, persist: bool) -> None:
        self._screen = screen_of(options.get("console"), options.get("file"))
        self._interval: float = options.get("mininterval", MINIMAL_INTERVAL)
        self._is_disabled: bool = options.get("disable", False)
        self._total: int | None = options.get("total")
        self._persist = persist
        self.has_fixed_total = "total" in options

    def open_bar(self, settings: BarSettings) -> RichBar:
        """Open a bar."""
        is_hidden = settings.is_hidden or self._is_disabled
        return RichBar(
            replace(settings, total=self._total) if self.has_fixed_total else settings,
            None if is_hidden else self._screen,
            interval=self._interval,
            persists=self._persist and not settings.is_nested,
        )

    def print_message(self, message: str) -> None:
        """Print a line of the user above the open bars."""
        self._screen.print_line(Text(message))

    def print_spans(self, spans: Sequence[Span]) -> None:
        """Print a line above the open bars."""
        if not self._is_disabled:
            self._screen.print_line(Text.assemble(*((span.text, STYLES[span.role]) for span in spans)))


def draw_blocks(n: int, total: float | None, width: int, blocks: str) -> Text:
    """Return a bar of blocks, to the precision of half a block.

    Args:
        n: Number of completed units.
        total: Expected number of units; ``None`` if it is unknown.
        width: Number of blocks.
        blocks: Whole block, left half and right half.

    Example:
        >>> draw_blocks(5, 8, 4, "━╸╺").plain
        '━━╸━'
    """
    whole, left, right = blocks[0], blocks[1], blocks[2]
    halves = int(2 * width * min(n / total, 1)) if total else 0
    done = whole * (halves // 2) + left * (halves % 2)
    rest = width - len(done)
    # A gap separates both parts.
    gap = right if rest and halves and not halves % 2 else ""
    return Text.assemble(
        (done, "bar.finished" if halves == 2 * width else "bar.complete"),
        (gap + whole * (rest - len(gap)), "bar.back"),
    )


def format_time(seconds: float) -> str:
    """Return a duration such as ``1:02:03`` or ``02:03``.

    Example:
        >>> format_time(3723.4), format_time(59.6)
        ('1:02:03', '01:00')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def format_rate(rate: float | None, unit: str) -> str:
    """Return a rate such as ``2.50it/s`` or, if it is lower than one per second, ``4.00s/it``.

    Example:
        >>> format_rate(2.5, "it"), format_rate(0.25, "it"), format_rate(None, "it")
        ('2.50it/s', '4.00s/it', '?it/s')
    """
    if rate is None:
        return f"?{unit}/s"
    return f"{rate:.2f}{unit}/s" if rate >= 1 else f"{1 / rate:.2f}s/{unit}"
