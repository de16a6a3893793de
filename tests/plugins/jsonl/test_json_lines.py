"""Tests of JsonLinesLogger: the contract of glowplug's test kit, and the file that a run writes."""

import json

import pytest
from acme_glowplug_jsonl import JsonLinesLogger

from glowplug import Engine, Events, RunOutcome
from glowplug_testing import LoggerCase, LoggerContract


def read_lines(path, kind):
    """Return the lines with the given kind."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] == kind]


class TestJsonLinesLogger(LoggerContract):
    @pytest.fixture
    def case(self, tmp_path):
        """Describe how to create a logger and how to read what it wrote."""
        path = tmp_path / "run.jsonl"
        return LoggerCase(
            make=lambda **options: JsonLinesLogger(path, **options),
            read=lambda: [
                (name, line["step"], value)
                for line in read_lines(path, "scalars")
                for name, value in line["values"].items()
            ],
            plugin="acme_glowplug_jsonl._plugin",
        )


@pytest.mark.parametrize(
    ("outcome", "word"), [(None, None), (RunOutcome.FAILED, "failed"), (RunOutcome.COMPLETED, "completed")]
)
def test_the_last_line_says_how_the_run_ended(tmp_path, outcome, word):
    """The outcome passed to close() is written once, in the last line."""
    logger = JsonLinesLogger(tmp_path / "run.jsonl")
    logger.log_params({"optimizer": {"lr": 0.1}, "device": range(2)})
    logger.close(outcome)
    assert read_lines(tmp_path / "run.jsonl", "params")[0]["values"] == {
        "optimizer/lr": 0.1,
        "device": "range(0, 2)",
    }
    assert read_lines(tmp_path / "run.jsonl", "end") == [{"kind": "end", "outcome": word}]


def test_texts_of_an_output(tmp_path):
    """Texts in an engine's output are written to separate lines, apart from the numbers."""
    engine = Engine(lambda engine, batch: {"loss": batch, "note": f"größe {batch}"})
    with JsonLinesLogger(tmp_path / "run.jsonl") as logger:
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "train", output_transform=dict)
        engine.run([4])
    (line,) = read_lines(tmp_path / "run.jsonl", "text")
    assert (line["name"], line["text"], line["step"]) == ("train/note", "größe 4", 1)
    assert read_lines(tmp_path / "run.jsonl", "scalars")[0]["values"] == {"train/loss": 4.0}
