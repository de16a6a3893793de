"""A terminal that keeps the visible lines."""

import re

import pytest

CODES = re.compile(r"\x1b\[A|[\r\n]|[^\r\n\x1b]+")


class Screen:
    """Terminal that interprets carriage return, line feed, cursor up and text."""

    encoding = "utf-8"

    def __init__(self):
        self.rows = [""]
        self.row = self.column = 0
        self.written = ""

    def write(self, text):
        self.written += text
        for token in CODES.findall(text):
            if token == "\r":
                self.column = 0
            elif token == "\n":
                self.row += 1
                self.column = 0
                if self.row == len(self.rows):
                    self.rows.append("")
            elif token == "\x1b[A":
                self.row -= 1
                assert self.row >= 0
            else:
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + token + line[self.column + len(token) :]
                self.column += len(token)

    def flush(self):
        """Do nothing; the screen has no buffer."""

    def isatty(self):
        return True

    @property
    def lines(self):
        """Lines that are not blank, without times and the blocks of the bar."""
        texts = (re.sub(r" ?\[\d\d:\d\d[^]]*\]|(?<=\|)[█▏▎▍▌▋▊▉ ]*", "", row) for row in self.rows)
        return [" ".join(text.split()) for text in texts if text.strip()]


@pytest.fixture
def screen():
    """An empty terminal."""
    return Screen()
