"""Contract tests of JsonLinesLogger and CsvLogger."""

import pytest

from glowplug_jsonl import CsvLogger, JsonLinesLogger
from glowplug_testing import LoggerCase, LoggerContract


class TestJsonLinesLogger(LoggerContract):
    @pytest.fixture
    def case(self, tmp_path, scalars_of):
        """Loggers that write to one JSON Lines file."""
        path = tmp_path / "run.jsonl"
        return LoggerCase(
            make=lambda **options: JsonLinesLogger(path, **options),
            read=lambda: scalars_of(path),
            plugin="glowplug_jsonl._plugin",
        )


class TestCsvLogger(LoggerContract):
    @pytest.fixture
    def case(self, tmp_path, scalars_of):
        """Loggers that write to one CSV file."""
        path = tmp_path / "run.csv"
        return LoggerCase(
            make=lambda **options: CsvLogger(path, **options),
            read=lambda: scalars_of(path),
            plugin="glowplug_jsonl._plugin",
        )
