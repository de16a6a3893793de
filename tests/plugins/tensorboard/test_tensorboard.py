"""Tests of TensorboardLogger with TensorBoard's reader and disk failures."""

import itertools
import json
import pickle
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import Counts, GradsScalarHandler, OptimizerParamsHandler, WeightsHistHandler
from glowplug.testing import FakeEngine
from glowplug_tensorboard import TensorboardLogger, event_file


def read(folder):
    """Read all event files of a folder."""
    accumulator = EventAccumulator(
        str(folder), size_guidance=dict.fromkeys(("scalars", "histograms", "images", "tensors"), 0)
    )
    accumulator.Reload()
    return accumulator


def rows(folder, tag):
    """Read step and value of a scalar tag."""
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def texts(folder, tag):
    """Read step and text of a text tag."""
    events = read(folder).Tensors(f"{tag}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events]


def test_later_files_have_later_names(tmp_path, monkeypatch):
    """TensorBoard reads the records of a process's ninth, tenth and eleventh event files in the order of the files."""
    monkeypatch.setattr(event_file, "_numbers", itertools.count(8))
    for step in range(4):
        with TensorboardLogger(tmp_path) as logger:
            logger.log_scalars({"loss": step}, step)
    assert [step for step, _ in rows(tmp_path, "loss")] == [0, 1, 2, 3]


def test_scalars_of_a_run(tmp_path):
    """The event file has the tags, steps, values and wall times of a run and its evaluator (L-040)."""
    trainer, evaluator = Engine(lambda engine, batch: batch / 4), Engine(lambda engine, batch: batch)
    began = time.time()
    with TensorboardLogger(tmp_path) as logger:
        logger.attach_output_handler(
            trainer,
            Events.ITERATION_COMPLETED(every=2),
            "training",
            output_transform=lambda loss: {"loss": loss, "x": [1, 2]},
        )
        logger.attach_output_handler(evaluator, Events.COMPLETED, "validation", metric_names="all")
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
        evaluator.add_event_handler(
            Events.COMPLETED, lambda e: e.state.metrics.update(accuracy=trainer.state.epoch / 2)
        )
        trainer.run([1, 2, 3, 4], max_epochs=2)
    assert sorted(read(tmp_path).Tags()["scalars"]) == [
        "training/loss",
        "training/x/0",
        "training/x/1",
        "validation/accuracy",
    ]
    assert rows(tmp_path, "training/loss") == [(2, 0.5), (4, 1.0), (6, 0.5), (8, 1.0)]
    assert rows(tmp_path, "training/x/1") == [(step, 2.0) for step in (2, 4, 6, 8)]
    assert rows(tmp_path, "validation/accuracy") == [(1, 0.5), (2, 1.0)]
    times = [event.wall_time for event in read(tmp_path).Scalars("training/loss")]
    assert times == sorted(times)
    assert began <= times[0] <= times[-1] <= time.time()
    assert len(list(tmp_path.iterdir())) == 1


def test_scalars_equal_those_of_summary_writer(tmp_path):
    """Several scalars in one event read back exactly like those of SummaryWriter.add_scalar."""
    from torch.utils.tensorboard import SummaryWriter

    values = {"a": 1 / 3, "b/c": -0.0, "nan": float("nan"), "inf": float("inf"), "with space=1": 1e-40}
    with SummaryWriter(tmp_path / "theirs") as writer:
        for tag, value in values.items():
            writer.add_scalar(tag, value, 7, walltime=123.25)
    with TensorboardLogger(tmp_path / "ours") as logger:
        logger.log_scalars(values, 7, 123.25)
    ours, theirs = read(tmp_path / "ours"), read(tmp_path / "theirs")
    assert ours.Tags() == theirs.Tags()
    for tag in values:
        assert repr(ours.Scalars(tag)) == repr(theirs.Scalars(tag))
    assert ours.Scalars("a")[0].wall_time == 123.25


def test_names_that_are_not_unicode(tmp_path):
    """The undecodable bytes of a file name are escaped in names, texts and hyperparameters, so that no record is lost."""
    name = "size/\udce9"
    with TensorboardLogger(tmp_path) as logger:
        logger.log_params({name: name})
        logger.log_scalars({name: 1.0, "loss": 2.0}, 1)
        logger.log_text(name, name, 1)
        logger.log_histogram(name, [1.0, 2.0], 1)
        logger.log_image(name, np.zeros((2, 2)), 1)
        assert logger.flush()
        assert logger.counts == Counts(sent=5, dropped=0, pending=0)
    escaped = "size/\\udce9"
    assert rows(tmp_path, "loss") == [(1, 2.0)]
    assert rows(tmp_path, escaped) == [(1, 1.0)]
    assert texts(tmp_path, escaped) == [(1, escaped)]
    assert len(read(tmp_path).Histograms(escaped)) == len(read(tmp_path).Images(escaped)) == 1
    assert sessions(tmp_path)[0].hparams[escaped].string_value == escaped


def test_optimizer_weights_and_gradients(tmp_path):
    """The log handlers of the core write scalars and histograms under their names."""
    model, fake = torch.nn.Linear(2, 1), FakeEngine()
    model.weight.data = torch.tensor([[3.0, -4.0]])
    model.weight.grad, model.bias.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([1.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with TensorboardLogger(tmp_path) as logger:
        logger.attach(fake, Events.ITERATION_STARTED, OptimizerParamsHandler(optimizer))
        logger.attach(fake, Events.EPOCH_COMPLETED, WeightsHistHandler(model, whitelist=["weight"]))
        logger.attach(fake, Events.EPOCH_COMPLETED, GradsScalarHandler(model, tag="model"))
        fake.fire(Events.ITERATION_STARTED, iteration=3).fire(Events.EPOCH_COMPLETED, epoch=2)
    assert rows(tmp_path, "lr/group_0") == [(3, 0.5)]
    assert rows(tmp_path, "model/grads_norm/weight") == [(2, 2.0)]
    (event,) = read(tmp_path).Histograms("weights/weight")
    histogram = event.histogram_value
    assert (event.step, histogram.min, histogram.max, histogram.num, histogram.sum) == (
        2,
        -4.0,
        3.0,
        2.0,
        -1.0,
    )
    assert histogram.sum_squares == 25.0
    assert sum(histogram.bucket) == 2.0


def test_histogram_of_diverged_values(tmp_path, caplog):
    """Only finite values are counted; a histogram without finite values is reported and dropped."""
    with TensorboardLogger(tmp_path) as logger:
        logger.log_histogram("some", torch.tensor([1.0, float("nan"), float("inf")]), 1)
        logger.log_histogram("none", torch.tensor([float("nan")]), 1)
        logger.log_histogram("half", torch.ones(3, dtype=torch.bfloat16), 1)
        assert logger.flush()
        assert logger.counts == Counts(sent=2, dropped=1, pending=0)
    accumulator = read(tmp_path)
    assert accumulator.Tags()["histograms"] == ["some", "half"]
    assert accumulator.Histograms("some")[0].histogram_value.num == 1
    assert "histogram none at step 1 was refused: ValueError: none of its 1 values is finite" in caplog.text


@pytest.mark.parametrize(
    ("shape", "width", "height"),
    [
        ((5, 4), 4, 5),
        ((3, 5, 4), 4, 5),
        ((5, 4, 3), 4, 5),
        ((5, 4, 4), 4, 5),
        ((1, 5, 4), 4, 5),
        ((2, 3, 5, 4), 16, 5),
    ],
)
def test_image_layouts(tmp_path, shape, width, height):
    """The shape determines height, width and channels; a batch becomes a grid."""
    with TensorboardLogger(tmp_path) as logger:
        logger.log_image("sample", torch.zeros(shape), 3, 9.0)
    (image,) = read(tmp_path).Images("sample")
    assert (image.step, image.wall_time, image.width, image.height) == (
        3,
        9.0,
        width if len(shape) < 4 else 8,
        height,
    )


def test_image_of_unsupported_shape(tmp_path):
    """An image of an unsupported shape raises where it is logged."""
    with (
        TensorboardLogger(tmp_path) as logger,
        pytest.raises(ValueError, match=r"'bad': an image of shape \(5, 5, 7\)"),
    ):
        logger.log_image("bad", np.zeros((5, 5, 7)), 1)


def test_figures_and_texts(tmp_path):
    """Figures keep their size, texts their content, and both their step and time."""
    figures = pytest.importorskip("matplotlib.figure")
    with TensorboardLogger(tmp_path) as logger:
        logger.log_figure("curve", figures.Figure(figsize=(2, 1), dpi=10), 4, 5.0)
        logger.log_text("note", "**hello**", 6, 7.0)
    (image,) = read(tmp_path).Images("curve")
    assert (image.step, image.wall_time, image.width, image.height) == (4, 5.0, 20, 10)
    assert texts(tmp_path, "note") == [(6, "**hello**")]


def sessions(folder):
    """Return the start and the end of the session that the HPARAMS page reads."""
    from tensorboard.plugins.hparams import metadata

    accumulator = read(folder)

    def content(tag):
        return accumulator.SummaryMetadata(tag).plugin_data.content

    return (
        metadata.parse_session_start_info_plugin_data(content(metadata.SESSION_START_INFO_TAG)),
        metadata.parse_session_end_info_plugin_data(content(metadata.SESSION_END_INFO_TAG)),
    )


def test_params(tmp_path):
    """Hyperparameters of several calls appear in the HPARAMS and TEXT data, and the session end has the status of the run."""
    from tensorboard.plugins.hparams import api_pb2

    with TensorboardLogger(tmp_path) as logger:
        logger.log_params(
            {"optimizer": {"name": "SGD", "lr": 0.5}, "layers": (1, 2), "amp": True, "big": 10**400}
        )
        logger.log_params({"seed": 7, "note": "a|b\nc"})
        logger.log_scalars({"loss": 1.0}, 1)
        logger.log_params({"late": 1})
        logger.close(RunOutcome.FAILED)
    start, end = sessions(tmp_path)
    assert start.hparams["optimizer/name"].string_value == "SGD"
    assert start.hparams["optimizer/lr"].number_value == 0.5
    assert start.hparams["layers"].string_value == "(1, 2)"
    assert start.hparams["amp"].bool_value is True
    assert start.hparams["big"].string_value == str(10**400)
    assert start.hparams["seed"].number_value == 7
    assert end.status == api_pb2.STATUS_FAILURE
    first, second, third = texts(tmp_path, "params")
    assert "| optimizer/lr | 0.5 |" in first[1]
    assert second == (1, "| name | value |\n|---|---|\n| seed | 7 |\n| note | a\\|b c |")
    assert third == (2, "| name | value |\n|---|---|\n| late | 1 |")


def test_params_alone(tmp_path):
    """Hyperparameters without any other record are in the HPARAMS data after the run."""
    with TensorboardLogger(tmp_path) as logger:
        logger.log_params({"lr": 0.5})
    start, _ = sessions(tmp_path)
    assert start.hparams["lr"].number_value == 0.5


def test_summary_writer_arguments(tmp_path):
    """SummaryWriter's arguments are accepted, and ``logger.writer`` has its methods (L-040)."""
    with TensorboardLogger(str(tmp_path), "c", 2, 5, 1, filename_suffix=".mine") as logger:
        logger.writer.add_custom_scalars({"a": {"b": ["Multiline", ["x"]]}})
        writer = logger.writer
        assert (writer.max_queue, writer.flush_secs, writer.log_dir) == (5, 1, str(tmp_path))
        logger.log_scalars({"x": 1.0}, 1)
    assert [path.name.endswith(".mine") for path in tmp_path.iterdir()] == [True]
    assert "custom_scalars__config__" in read(tmp_path).Tags()["tensors"]
    writer.add_scalar("x", 1.0, 1)
    assert logger.counts == Counts(sent=2, dropped=1, pending=0)


def test_purge_step(tmp_path):
    """A resumed run with purge_step replaces the later steps of the crashed run (L-040)."""
    for purge, steps in ((None, (1, 2, 3)), (2, (2, 3))):
        with TensorboardLogger(tmp_path, purge_step=purge) as logger:
            for step in steps:
                logger.log_scalars({"x": float(step if purge is None else 10 * step)}, step)
        # TensorBoard orders files by the second in their names.
        time.sleep(1.1)
    assert rows(tmp_path, "x") == [(1, 1.0), (2, 20.0), (3, 30.0)]


@pytest.mark.parametrize(("on_repeat", "expected"), [("skip", 2.0), ("overwrite", 20.0)])
@pytest.mark.parametrize("first", ["scalars", "text"])
def test_repeated_steps(tmp_path, on_repeat, expected, first):
    """A resumed run leaves out the steps that the folder has, or hides the earlier records of these steps."""
    with TensorboardLogger(tmp_path) as logger:
        logger.log_scalars({"x": 1.0}, 1)
        state = logger.state_dict()
        logger.log_scalars({"x": 2.0}, 2)
        logger.log_scalars({"x": 3.0}, 3)
    # TensorBoard orders files by the second in their names.
    time.sleep(1.1)
    with TensorboardLogger(on_repeat=on_repeat) as logger:
        logger.load_state_dict(state)
        if first == "text":
            logger.log_text("note", "resumed", 2)
        logger.log_scalars({"x": 20.0}, 2)
    kept = [(3, 3.0)] if on_repeat == "skip" else []
    assert rows(tmp_path, "x") == [(1, 1.0), (2, expected), *kept]


def test_default_folder(tmp_path, monkeypatch):
    """The default folder is below runs/, ends with the comment and is created at the first record."""
    monkeypatch.chdir(tmp_path)
    with TensorboardLogger(comment="-mine") as logger:
        assert list(tmp_path.iterdir()) == []
        logger.log_scalars({"x": 1.0}, 1)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-mine")
    assert Path(logger.log_dir) == folder


def run_logging(logger, iterations=10, at=None):
    """Run an engine that logs each iteration and calls ``at[iteration]()``; return the time in seconds."""
    engine = Engine(lambda engine, batch: float(batch))
    logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
    for iteration, action in (at or {}).items():
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), action)
    began = time.monotonic()
    assert engine.run(range(iterations)).outcome is RunOutcome.COMPLETED
    return time.monotonic() - began


class TestDiskFaults:
    def test_folder_that_cannot_be_created(self, tmp_path, caplog):
        """The run completes, all records count as dropped, and the log contains the reason (L1)."""
        blocked = tmp_path / "file"
        blocked.touch()
        logger = TensorboardLogger(blocked)
        assert run_logging(logger) < 10
        logger.close()
        assert logger.counts == Counts(sent=0, dropped=10, pending=0)
        assert "TensorboardLogger: opening the backend failed: FileExistsError" in caplog.text
        assert "closed; records: 0 sent, 10 lost" in caplog.text
        strict = TensorboardLogger(blocked, on_error="raise")
        with pytest.raises(FileExistsError):
            run_logging(strict)
        with pytest.raises(FileExistsError):
            strict.close()

    def test_removed_folder(self, tmp_path, caplog):
        """If the folder is removed during a run, later records go to a new file in a new folder (L1)."""
        folder = tmp_path / "logs"
        logger = TensorboardLogger(folder)

        def remove():
            assert logger.flush()
            shutil.rmtree(folder)

        assert run_logging(logger, 20, at={10: remove}) < 10
        limit = time.monotonic() + 20
        while logger.counts.pending:
            assert time.monotonic() < limit
            time.sleep(0.05)
        logger.log_scalars({"t/output": 99.0}, 21)
        logger.close()
        assert "cannot be written" in caplog.text
        assert rows(folder, "t/output") == [(step, step - 1.0) for step in range(10, 21)] + [(21, 99.0)]

    @pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
    def test_file_size_limit(self, tmp_path):
        """If the file cannot grow, the run continues and the logger continues in new files (L1)."""
        script = f"""
import resource, time
from glowplug import Engine, Events
from glowplug_tensorboard import TensorboardLogger
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
logger = TensorboardLogger({str(tmp_path)!r}, purge_step=1)
engine = Engine(lambda engine, batch: float(batch))
logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
engine.run(range(500))
limit = time.monotonic() + 30
while logger.counts.pending and time.monotonic() < limit:
    time.sleep(0.05)
logger.close()
print(engine.state.outcome.name, sum(logger.counts), logger.counts.dropped)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stdout == "COMPLETED 500 0\n", done.stderr
        assert "cannot be written: [Errno 27] File too large" in done.stderr
        assert len(list(tmp_path.iterdir())) > 1
        stored = rows(tmp_path, "t/output")
        # Later files purge nothing, and do not repeat what the full disk took of a write.
        assert stored == [(step, step - 1.0) for step in range(1, 501)]


def test_durable(tmp_path):
    """With durable=True, a record is in the event file when log_scalars returns."""
    script = """
import os, sys
from glowplug_tensorboard import TensorboardLogger
logger = TensorboardLogger(sys.argv[1], durable=True)
for step in range(1, 101):
    logger.log_scalars({"loss": 1.0}, step)
os._exit(9)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 9, ended.stderr
    assert [row[0] for row in rows(tmp_path, "loss")] == list(range(1, 101))


def test_state_of_another_folder(tmp_path, caplog):
    """The state of another folder is reported as such, and the steps of a moved folder are recognized."""
    with TensorboardLogger(tmp_path / "a") as first:
        for step in range(5):
            first.log_scalars({"loss": 1.0}, step)
        state = first.state_dict()
    (tmp_path / "a").rename(tmp_path / "b")
    with TensorboardLogger(tmp_path / "b") as second:
        second.load_state_dict(state)
        for step in range(3, 8):
            second.log_scalars({"loss": 1.0}, step)
    (message,) = caplog.messages
    assert (
        f"belongs to the run log_dir={tmp_path / 'a'}, but this logger was created for the run log_dir={tmp_path / 'b'}"
        in message
    )
    assert [row[0] for row in rows(tmp_path / "b", "loss")] == list(range(8))


def test_pickle(tmp_path):
    """The copy of a logger in use writes to a separate file in the same folder."""
    logger = TensorboardLogger(tmp_path)
    logger.log_scalars({"x": 1.0}, 1)
    logger.flush()
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_scalars({"x": 2.0}, 2)
    copy.close()
    logger.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert rows(tmp_path, "x") == [(1, 1.0), (2, 2.0)]


def test_two_ranks_create_one_file(run_ranks, tmp_path):
    """Of two ranks, only rank 0 creates an event file (L-007)."""

    def log_on(rank):
        from pathlib import Path

        from glowplug import Engine, Events
        from glowplug_tensorboard import TensorboardLogger

        folder = Path(__file__).parent / "logs"
        engine = Engine(lambda engine, batch: batch)
        with TensorboardLogger(folder) as logger:
            logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
            engine.run([1, 2])
        return list(logger.counts)

    assert run_ranks(log_on) == [[2, 0, 0], [0, 0, 0]]
    assert len(list((tmp_path / "logs").iterdir())) == 1


def test_tensorboard_server(tmp_path, serve):
    """A TensorBoard server on 127.0.0.1 lists the scalars, histograms and hyperparameters."""
    with TensorboardLogger(tmp_path / "run1") as logger:
        logger.log_params({"lr": 0.5})
        logger.log_scalars({"training/loss": 0.25}, 3)
        logger.log_histogram("weights/w", np.arange(4), 3)
    address = serve(tmp_path)

    def ask(path, body=None):
        request = urllib.request.Request(
            f"{address}/data/plugin/{path}",
            body and json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    limit = time.monotonic() + 30
    while not (tags := ask("scalars/tags")):
        assert time.monotonic() < limit
        time.sleep(0.2)
    assert list(tags["run1"]) == ["training/loss"]
    assert [row[1:] for row in ask("scalars/scalars?run=run1&tag=training/loss")] == [[3, 0.25]]
    assert list(ask("histograms/tags")["run1"]) == ["weights/w"]
    columns = ask("hparams/experiment", {"includeMetrics": True})
    assert [info["name"] for info in columns["hparamInfos"]] == ["lr"]
    assert [info["name"]["tag"] for info in columns["metricInfos"]] == ["training/loss"]
