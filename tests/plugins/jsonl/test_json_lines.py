"""Tests of JsonLinesLogger: the lines and files of a run."""

import json

import numpy as np
import pytest
from PIL import Image

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import OutputHandler
from glowplug.testing import FakeEngine
from glowplug_jsonl import CsvLogger, JsonLinesLogger


@pytest.fixture
def path(tmp_path):
    """Return the path of a file in a folder that does not exist."""
    return tmp_path / "logs" / "run.jsonl"


@pytest.mark.parametrize(
    ("outcome", "word"), [(None, None), (RunOutcome.FAILED, "failed"), (RunOutcome.COMPLETED, "completed")]
)
def test_the_last_line_says_how_the_run_ended(path, lines_of, outcome, word):
    """The outcome passed to close() is written once, in the last line."""
    logger = JsonLinesLogger(path)
    logger.log_params({"optimizer": {"lr": 0.1, "betas": (0.9, 0.99)}, "device": range(2)})
    logger.close(outcome)
    params, end = lines_of(path)
    assert params["values"] == {"optimizer/lr": 0.1, "optimizer/betas": [0.9, 0.99], "device": "range(0, 2)"}
    assert end == {"kind": "end", "outcome": word}


def test_events_of_a_fake_engine(path, lines_of):
    """Each event is a line with the step, the time and the values of the state."""
    engine = FakeEngine()
    with JsonLinesLogger(path) as logger:
        logger.attach(engine, Events.EPOCH_COMPLETED, OutputHandler("val", metric_names="all"))
        engine.fire(Events.EPOCH_COMPLETED, epoch=3, metrics={"accuracy": 0.5, "f1": [0.25, 0.75]})
        logger.log_scalars({"late": 1.0}, 4, 1234.5)
    val, late = lines_of(path, "scalars")
    assert (val["step"], val["values"]) == (3, {"val/accuracy": 0.5, "val/f1/0": 0.25, "val/f1/1": 0.75})
    assert late == {"kind": "scalars", "step": 4, "time": 1234.5, "values": {"late": 1.0}}


def test_texts_of_an_output(path, lines_of):
    """Texts in an engine's output are written to separate lines, apart from the numbers."""
    engine = Engine(lambda engine, batch: {"loss": batch, "note": f"größe {batch}\n\ud800"})
    with JsonLinesLogger(path) as logger:
        logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "train", output_transform=dict)
        engine.run([4])
    (line,) = lines_of(path, "text")
    assert (line["name"], line["text"], line["step"]) == ("train/note", "größe 4\n\ud800", 1)
    assert lines_of(path, "scalars")[0]["values"] == {"train/loss": 4.0}


def test_histogram(path, lines_of):
    """A histogram has the counts of the finite values, their range and their sums."""
    with JsonLinesLogger(path) as logger:
        logger.log_histogram("weights", np.array([0.0, 1.0, 1.0, np.nan]), 1)
    (line,) = lines_of(path, "histogram")
    assert (sum(line["counts"]), line["counts"][0], line["counts"][-1]) == (3, 1, 2)
    assert [line[name] for name in ("minimum", "maximum", "total", "total_of_squares")] == [0, 1, 2, 2]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images(path, lines_of, channels):
    """An image is stored as a PNG file with the same pixels, which the line names relative to its own file."""
    pixels = np.arange(5 * 7 * channels, dtype=np.uint8).reshape(5, 7, channels)
    with JsonLinesLogger(path) as logger:
        logger.log_image("val/samples", pixels, 20)
        logger.log_image("val/samples", pixels, 20)
        logger.log_image("val/samples", pixels[::-1], 20)
    files = [line["file"] for line in lines_of(path, "image")]
    first = "run.jsonl.files/images/val%2Fsamples-20.png"
    assert files == [first, first, "run.jsonl.files/images/val%2Fsamples-20-2.png"]
    with Image.open(path.parent / first) as image:
        assert np.array_equal(np.array(image).reshape(pixels.shape), pixels)


def test_figures(path, lines_of):
    """Pixels become a PNG file, and an interactive figure becomes an HTML file."""

    class Figure:
        def to_html(self):
            return "<html>größe</html>"

    with JsonLinesLogger(path) as logger:
        logger.log_figure("fit", np.zeros((2, 2, 4), np.uint8), 1)
        logger.log_figure("chart", Figure(), 2)
    image, page = (path.parent / line["file"] for line in lines_of(path, "figure"))
    assert image.read_bytes().startswith(b"\x89PNG")
    assert page.read_text(encoding="utf-8") == "<html>größe</html>"


def test_names_of_files(path, lines_of):
    """Names that are too long or contain path separators have separate files inside the folder of the run."""
    names = ["../up", "a/b", "a%2Fb", "x" * 300 + "1", "x" * 300 + "2", "損失" * 60, "a", "a-1"]
    with JsonLinesLogger(path) as logger:
        for number, name in enumerate(names):
            logger.log_image(name, np.full((1, 1, 1), number, np.uint8), 1)
        assert logger.flush(10)
        assert logger.counts.dropped == 0
    files = {(path.parent / line["file"]).resolve() for line in lines_of(path, "image")}
    assert len(files) == len(names)
    assert {file.parent for file in files} == {path.parent / "run.jsonl.files" / "images"}


def test_artifacts(path, lines_of, tmp_path):
    """A file and a folder are copied as they were when they were logged; a folder outside is refused."""
    source = tmp_path / "best.pt"
    source.write_text("first")
    with JsonLinesLogger(path) as logger:
        logger.log_artifact(source, "checkpoints")
        source.write_text("second")
        logger.log_artifact(source)
        logger.log_artifact(source, "../outside")
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "inner.txt").write_text("inner")
        logger.log_artifact(folder)
        source.unlink()
        assert logger.flush(10)
        assert logger.counts == (3, 1, 0)
    lines = lines_of(path, "artifact")
    assert [(line["name"], line["file"]) for line in lines] == [
        ("checkpoints", "run.jsonl.files/artifacts/checkpoints/best.pt"),
        (None, "run.jsonl.files/artifacts/best.pt"),
        (None, "run.jsonl.files/artifacts/folder"),
    ]
    contents = [path.parent / line["file"] for line in lines]
    assert [contents[0].read_text(), contents[1].read_text()] == ["first", "second"]
    assert (contents[2] / "inner.txt").read_text() == "inner"


def test_artifacts_with_the_same_path(path, lines_of, tmp_path):
    """A file and a folder cannot have the same path: the second artifact is dropped, and later records are written."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b").write_text("b")
    (tmp_path / "folder").mkdir()
    with JsonLinesLogger(path) as logger:
        logger.log_artifact(tmp_path / "a.txt")
        logger.log_artifact(tmp_path / "b", "a.txt")
        logger.log_artifact(tmp_path / "b", "folder")
        (tmp_path / "b").unlink()
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "inner").touch()
        logger.log_artifact(tmp_path / "b", "folder")
        logger.log_scalars({"loss": 0.5}, 1)
        assert logger.flush(10)
        assert logger.counts == (3, 2, 0)
    assert len(lines_of(path, "scalars")) == 1


def test_a_read_only_file_in_a_folder(path, lines_of, tmp_path):
    """A folder with a read-only file can be logged again: the file is replaced, not overwritten."""
    source = tmp_path / "checkpoint"
    (source / "inner").mkdir(parents=True)
    weights = source / "inner" / "weights"
    weights.write_text("first")
    weights.chmod(0o444)
    with JsonLinesLogger(path) as logger:
        logger.log_artifact(source)
        assert logger.flush(10)
        copy = path.with_name("run.jsonl.files") / "artifacts" / "checkpoint" / "inner" / "weights"
        earlier = tmp_path / "earlier"
        earlier.hardlink_to(copy)
        weights.unlink()
        weights.write_text("second")
        logger.log_artifact(source)
        assert logger.flush(10)
        assert logger.counts == (2, 0, 0)
    # The superuser may overwrite a read-only file, but this would also change the link.
    assert (earlier.read_text(), copy.read_text()) == ("first", "second")


def test_booleans_are_numbers(path):
    """A boolean among scalars is written as 0 or 1, as in a CSV file."""
    with JsonLinesLogger(path) as logger:
        logger.log_scalars({"ok": True, "loss": 0.5}, 1, 2.5)
    assert '"values": {"ok": 1, "loss": 0.5}' in path.read_text()


def test_rows_share_a_write(path, monkeypatch):
    """The rows of a batch are written with one write."""
    from glowplug_jsonl.line_file import LineFile

    writes = []
    append = LineFile.append
    monkeypatch.setattr(LineFile, "append", lambda file, text: (writes.append(text), append(file, text)))
    with JsonLinesLogger(path) as logger:
        for step in range(100):
            logger.log_scalars({"loss": 0.5}, step)
    lines = [json.loads(line) for text in writes for line in text.splitlines()]
    assert [line["step"] for line in lines[:-1]] == list(range(100))
    assert len(writes) <= 4


def test_other_ranks(path, lines_of, monkeypatch):
    """With all_ranks, each rank writes to a separate file."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with JsonLinesLogger(path, all_ranks=True) as logger:
        logger.log_scalars({"loss": 0.5}, 1)
    assert not path.exists()
    assert len(lines_of(path.with_name("run.rank1.jsonl"), "scalars")) == 1


@pytest.mark.parametrize("kind", [JsonLinesLogger, CsvLogger])
def test_all_ranks_need_a_path(kind):
    """Without a path, each rank would choose a different one, which a resumed run could not find."""
    with pytest.raises(ValueError, match=rf"{kind.__name__}: all_ranks=True needs path="):
        kind(all_ranks=True)
