"""Loggers for the tests, and fixtures that create them."""

import json
import threading

import pytest

from glowplug.loggers import Logger


class ListLogger(Logger):
    """Logger that keeps its calls in order, with their threads."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = []
        self.threads = set()
        self.outcomes = []

    def _record(self, method, *args):
        self.calls.append((method, *args))
        self.threads.add(threading.get_ident())

    def open_backend(self):
        self._record("open")

    def write_scalars(self, scalars, step, timestamp):
        self._record("log_scalars", scalars, step, timestamp)

    def write_histogram(self, name, values, step, timestamp):
        self._record("log_histogram", name, values, step, timestamp)

    def write_text(self, name, text, step, timestamp):
        self._record("log_text", name, text, step, timestamp)

    def write_params(self, params):
        self._record("log_params", params)

    def flush_backend(self):
        self._record("flush")

    def close_backend(self, outcome):
        self._record("close")
        self.outcomes.append(outcome)

    @property
    def scalars(self):
        """Return step and scalars of each record."""
        assert self.flush(5)
        return [(call[2], call[1]) for call in self.calls if call[0] == "log_scalars"]


class JsonLinesLogger(Logger):
    """Minimal logger that appends each record to a file."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def write_scalars(self, scalars, step, timestamp):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")

    def close_backend(self, outcome):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"closed": outcome and outcome.name}) + "\n")


@pytest.fixture
def make_logger():
    """Return a factory of list loggers, and close them after the test."""
    made = []

    def make(**options):
        logger = ListLogger(**options)
        made.append(logger)
        return logger

    yield make
    for logger in made:
        logger.close()


@pytest.fixture
def logger(make_logger):
    """Return a list logger."""
    return make_logger()


@pytest.fixture
def json_lines(tmp_path):
    """Return a logger that appends to a file, and a function that reads the file."""
    path = tmp_path / "log.jsonl"
    return JsonLinesLogger(path), lambda: [json.loads(line) for line in path.read_text().splitlines()]
