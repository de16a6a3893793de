"""Draw what a terminal shows."""

import io
import re
from collections.abc import Iterable
from pathlib import Path

import pyte
from pyte.screens import Char
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text


class Terminal(io.StringIO):
    """A terminal that shows what is written to it."""

    def __init__(self, width: int, height: int = 60) -> None:
        super().__init__()
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.Stream(self._screen)
        self._screen.set_mode(pyte.modes.LNM)

    def write(self, text: str) -> int:
        """Show a text."""
        self._stream.feed(text)
        return len(text)

    def rows(self) -> list[Text]:
        """Return the rows that are not empty, with their colors."""
        rows = []
        for number in range(self._screen.lines):
            cells = [self._screen.buffer[number][column] for column in range(self._screen.columns)]
            text = Text.assemble(*((cell.data, style_of(cell)) for cell in cells))
            text.rstrip()
            if text.plain:
                rows.append(text)
        return rows


def style_of(cell: Char) -> Style:
    """Return the style of a cell; pyte writes the colors beyond the first sixteen as six hexadecimal digits."""
    color = {"default": None, "brown": "yellow"}.get(cell.fg, cell.fg)
    if color is not None:
        color = f"#{color}" if re.fullmatch(r"[\da-f]{6}", color) else color.replace("bright", "bright_")
    return Style(
        color=None if color is None else Color.parse(color),
        bold=cell.bold or None,
        italic=cell.italics or None,
    )


def save_picture(path: Path, rows: Iterable[str | Text], *, title: str, width: int) -> None:
    """Save a picture of rows as an SVG file."""
    console = Console(file=io.StringIO(), record=True, width=width)
    for row in rows:
        console.print(row, soft_wrap=True, highlight=False)
    # A browser would load the fonts from the web.
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL)
    path.write_text(svg, encoding="utf-8")
