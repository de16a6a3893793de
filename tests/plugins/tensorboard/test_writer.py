"""Tests of ``TensorboardLogger.writer``, the ``SummaryWriter`` whose records pass through the queue."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from glowplug.loggers import Counts
from glowplug_tensorboard import TensorboardLogger


def read(folder):
    """Read the event files of a folder, without those of folders in it."""
    sizes = dict.fromkeys(("scalars", "histograms", "images", "tensors"), 0)
    accumulator = EventAccumulator(str(folder), size_guidance=sizes)
    accumulator.Reload()
    return accumulator


def runs(folder):
    """Read the scalars of a folder and the folders in it, by run and tag."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    return {
        run: {tag: [(e.step, e.value) for e in multiplexer.Scalars(run, tag)] for tag in tags["scalars"]}
        for run, tags in multiplexer.Runs().items()
    }


def pixels(folder, tag):
    """Decode the image of a tag."""
    import io

    (event,) = read(folder).Images(tag)
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def use_every_method(writer):
    """Call each method of SummaryWriter that ignite's users call."""
    writer.add_scalar("scalar", torch.tensor(0.5), 3, 7.0)
    writer.add_scalar("no_step", np.float32(1))
    writer.add_scalars("both", {"a": 1.0, "b": 2.0}, 3)
    writer.add_histogram("histogram", torch.tensor([1.0, 2.0, 4.0]), 3, bins="auto")
    writer.add_histogram_raw("raw", 0, 1, 2, 1, 1, [0.5, 1.0], [1, 1], 3)
    writer.add_image("image", torch.zeros(3, 4, 5), 3)
    writer.add_images("images", torch.zeros(2, 3, 4, 5), 3)
    writer.add_image_with_boxes("boxes", torch.zeros(3, 8, 8), torch.tensor([[1, 1, 5, 5]]), 3)
    writer.add_text("text", "**hello**", 3)
    writer.add_hparams({"lr": 0.1}, {"accuracy": 0.75}, run_name="trial")
    writer.add_graph(torch.nn.Linear(2, 1), torch.zeros(1, 2))
    writer.add_pr_curve("pr_curve", torch.tensor([0, 1]), torch.tensor([0.25, 0.75]), 3)
    writer.add_mesh("mesh", torch.zeros(1, 4, 3), global_step=3)
    writer.add_tensor("tensor", torch.ones(2), 3)
    writer.add_custom_scalars({"a": {"b": ["Multiline", ["scalar"]]}})
    writer.add_embedding(torch.zeros(3, 2), tag="embedding", global_step=3)


def test_methods_pass_through_the_queue(tmp_path):
    """Each method of SummaryWriter is counted by the logger and can be read with TensorBoard's reader."""
    with TensorboardLogger(tmp_path) as logger:
        use_every_method(logger.writer)
        logger.writer.flush()
        # add_scalars is one event for each run, add_hparams three and its metric, add_graph two; add_embedding writes files.
        assert logger.counts == Counts(sent=20, dropped=0, pending=0)
    accumulator = read(tmp_path)
    tags = accumulator.Tags()
    assert tags["scalars"] == ["scalar", "no_step"]
    assert tags["histograms"] == ["histogram", "raw"]
    assert tags["images"] == ["image", "images", "boxes"]
    assert {"text/text_summary", "pr_curve", "tensor", "custom_scalars__config__"} <= set(tags["tensors"])
    assert any(tag.startswith("mesh") for tag in tags["tensors"])
    assert tags["graph"]
    assert (tmp_path / "projector_config.pbtxt").exists()
    (scalar,) = accumulator.Scalars("scalar")
    assert (scalar.step, scalar.value, scalar.wall_time) == (3, 0.5, 7.0)
    assert accumulator.Histograms("histogram")[0].histogram_value.sum == 7.0
    assert runs(tmp_path) == {
        ".": {"scalar": [(3, 0.5)], "no_step": [(0, 1.0)]},
        "both_a": {"both": [(3, 1.0)]},
        "both_b": {"both": [(3, 2.0)]},
        "trial": {"accuracy": [(0, 0.75)]},
    }


def test_figures(tmp_path):
    """A figure, or a list of figures, becomes an image."""
    figures = pytest.importorskip("matplotlib.figure")
    figure = figures.Figure(figsize=(2, 1), dpi=10)
    with TensorboardLogger(tmp_path) as logger:
        logger.writer.add_figure("one", figure, 3, close=False)
        logger.writer.add_figure("two", [figure, figure], 3, close=False)
    assert pixels(tmp_path, "one").shape == (10, 20, 3)
    assert pixels(tmp_path, "two").shape == (10, 40, 3)


@pytest.mark.parametrize("dataformats", ["CHW", "HWC", "WHC", "HW", "WH", "NCHW", "NHWC"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_dataformats(tmp_path, dataformats, kind):
    """The order of the dimensions that a caller gives is respected, even where the shape alone would mean another."""
    # Three rows: as (3, 5, 3), the image would be taken for channels first.
    image = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    if "C" not in dataformats:
        image[:] = image[..., :1]
    source = {"H": 0, "W": 1, "C": 2}
    given = image if "C" in dataformats else image[..., 0]
    given = given.transpose([source[letter] for letter in dataformats if letter != "N"])
    if "N" in dataformats:
        given = given[None]
    with TensorboardLogger(tmp_path) as logger:
        logger.writer.add_image("image", kind(np.ascontiguousarray(given)), 1, dataformats=dataformats)
    assert pixels(tmp_path, "image").tolist() == image.tolist()


def test_unknown_dataformats(tmp_path):
    """A misspelt order of dimensions raises where it is given."""
    with (
        TensorboardLogger(tmp_path) as logger,
        pytest.raises(ValueError, match="permutation of HW, CHW or NCHW, got 'CHH'"),
    ):
        logger.writer.add_image("image", torch.zeros(3, 4, 5), 1, dataformats="CHH")


def test_writer_does_not_wait_for_the_disk(tmp_path):
    """While the event file cannot be created, calls of the writer neither raise nor wait; the records are written later."""
    blocked = tmp_path / "logs"
    blocked.touch()
    with TensorboardLogger(blocked) as logger:
        logger.writer.add_scalar("x", 1.0, 1)
        logger.writer.add_tensor("y", torch.ones(2), 1)
        assert not logger.flush(0.5)
        blocked.unlink()
        assert logger.flush(20)
    assert set(read(blocked).Tags()["tensors"]) == {"y"}
    assert runs(blocked) == {".": {"x": [(1, 1.0)]}}


def test_writer_of_another_rank(tmp_path, monkeypatch):
    """On ranks that do not log, the writer's methods do nothing."""
    monkeypatch.setenv("RANK", "1")
    with TensorboardLogger(tmp_path) as logger:
        use_every_method(logger.writer)
        logger.log_graph(torch.nn.Linear(2, 1), torch.zeros(1, 2))
    assert logger.counts == Counts(0, 0, 0)
    assert not list(tmp_path.rglob("*tfevents*"))


def test_wrong_values_raise_at_the_call(tmp_path):
    """Values that are not numbers, images or texts raise in the call, as in the log methods."""
    with TensorboardLogger(tmp_path) as logger:
        for call in (
            lambda: logger.writer.add_scalar("x", "1.0", 1),
            lambda: logger.writer.add_histogram("x", 1.0, 1),
            lambda: logger.writer.add_text("x", 1.0, 1),
            lambda: logger.writer.add_scalar("x", 1.0, 1.5),
        ):
            with pytest.raises(TypeError, match=r"TensorboardLogger\.log_"):
                call()


def test_folders_are_absolute(tmp_path, monkeypatch):
    """After os.chdir, a relative folder, the default folder and the folders of add_scalars stay where they were."""
    monkeypatch.chdir(tmp_path)
    loggers = TensorboardLogger("logs"), TensorboardLogger(comment="-mine")
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    for logger in loggers:
        with logger:
            logger.log_scalars({"x": 1.0}, 1)
            logger.writer.add_scalars("both", {"a": 1.0}, 1)
            assert logger.writer.get_logdir() == logger.writer.log_dir
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (default,) = (tmp_path / "runs").iterdir()
    assert [runs(folder) for folder in (tmp_path / "logs", default)] == [
        {".": {"x": [(1, 1.0)]}, "both_a": {"both": [(1, 1.0)]}}
    ] * 2


def test_artifacts_are_refused(tmp_path):
    """TensorBoard stores no files: log_artifact raises an error that names the file and what to use."""
    with (
        TensorboardLogger(tmp_path) as logger,
        pytest.raises(
            TypeError,
            match=r"so model\.pt was not logged; log it with another logger.*log_text\(name, path, step\)",
        ),
    ):
        logger.log_artifact("model.pt")


@pytest.mark.parametrize(
    ("call", "method"),
    [
        ("add_scalar", "log_scalars"),
        ("add_scalars", "log_scalars"),
        ("add_hparams", "log_params"),
        ("add_histogram", "log_histogram"),
        ("add_image", "log_image"),
        ("add_images", "log_image"),
        ("add_figure", "log_figure"),
        ("add_text", "log_text"),
        ("add_graph", "log_graph"),
        ("add_pr_curve", "TensorboardLogger(...).writer"),
        ("add_embedding", "TensorboardLogger(...).writer"),
        ("add_custom_scalars", "TensorboardLogger(...).writer"),
        ("add_tensor", "TensorboardLogger(...).writer"),
        ("add_histogram_raw", "TensorboardLogger(...).writer"),
        ("add_onnx_graph", "TensorboardLogger(...).writer"),
    ],
)
def test_methods_called_on_the_logger(call, method):
    """SummaryWriter's methods, called on the logger itself, raise an error that names the method to use."""
    with TensorboardLogger("never") as logger, pytest.raises(AttributeError) as raised:
        getattr(logger, call)
    assert method in str(raised.value)
