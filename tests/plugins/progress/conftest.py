"""A terminal that keeps the visible lines."""

import contextlib
import os
import re
import subprocess
import sys

import pytest

CODES = re.compile(r"\x1b\[(\??\d*)([A-Za-z])|[\r\n]|[^\r\n\x1b]+|\x1b\[[\d;]*m")

OMITTED = re.compile(
    # of lines
    r"[ |]*[\d.]+ s *$"
    # of tqdm
    r"| ?\[\d\d:\d\d[^]]*\]|(?<=\|)[█▏▎▍▌▋▊▉ ]*"
    # of rich
    r"|[━╸╺]+|\d\d:\d\d(<(\?|[\d:]+))?|(\?|[\d.]+)(it|epoch)/s|[\d.]+s/(it|epoch)"
)


class Screen:
    """Terminal that interprets carriage return, line feed, text and the codes that tqdm and rich use."""

    encoding = "utf-8"

    def __init__(self):
        self.rows = [""]
        self.row = self.column = 0
        self.written = ""
        self.has_cursor = True

    def write(self, text):
        self.written += text
        position = 0
        while position < len(text):
            match = CODES.match(text, position)
            assert match, f"unknown code {text[position : position + 10]!r}"
            position = match.end()
            self._interpret(match[0], match[1], match[2])
        return len(text)

    def _interpret(self, token, number, code):
        if token == "\r":
            self.column = 0
        elif token == "\n":
            self.row += 1
            self.column = 0
            if self.row == len(self.rows):
                self.rows.append("")
        elif code == "A":
            self.row -= int(number or 1)
            assert self.row >= 0
        elif code == "K":
            assert number == "2"
            self.rows[self.row] = ""
        elif code in ("h", "l"):
            assert number == "?25"
            self.has_cursor = code == "h"
        elif not token.startswith("\x1b"):
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + token + line[self.column + len(token) :]
            self.column += len(token)

    def flush(self):
        """Do nothing; the screen has no buffer."""

    def isatty(self):
        return True

    @property
    def lines(self):
        """Lines that are not blank, without times, rates and the blocks of the bar."""
        texts = (OMITTED.sub("", row) for row in self.rows)
        return [" ".join(text.split()) for text in texts if text.strip()]


@pytest.fixture
def screen():
    """An empty terminal."""
    return Screen()


@pytest.fixture
def console(screen):
    """A console of rich that writes to the terminal."""
    from rich.console import Console

    return Console(file=screen, force_terminal=True, width=120, height=40, legacy_windows=False)


@pytest.fixture
def start():
    """Start a script on a terminal: ``start(script, *arguments)`` returns the process and the descriptor of its output."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    jobs, masters = [], []

    def run(script, *arguments):
        master, slave = pty.openpty()
        # tqdm draws nothing on a terminal without rows.
        termios.tcsetwinsize(slave, (24, 100))
        masters.append(master)
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
                stdout=slave,
                stderr=slave,
                close_fds=True,
                env={**os.environ, "TERM": "xterm"},
            )
        )
        os.close(slave)
        return jobs[0], master

    yield run
    for job in jobs:
        job.kill()
        job.wait(10)
    for master in masters:
        os.close(master)


@pytest.fixture
def read_all():
    """Return all that a process writes to a terminal from now on: ``read_all(master)``."""

    def read(master):
        written = b""
        with contextlib.suppress(OSError):
            while part := os.read(master, 4096):
                written += part
        return written

    return read
