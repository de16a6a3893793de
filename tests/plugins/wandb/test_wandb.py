"""Tests of WandbLogger: the files of offline runs as wandb-core reads them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import wandb

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import OutputHandler
from glowplug.testing import FakeEngine
from glowplug_wandb import WandbLogger, logger as module


def make_logger(runs, **options):
    """Return a logger with a timeout that is long enough for a busy machine."""
    return WandbLogger("digits", dir=runs.folder, timeout=60, **options)


def test_a_run(runs):
    """A trainer and its evaluator log to one run; each row has glowplug's step, even if steps do not increase (L-042)."""
    trainer, evaluator = Engine(lambda engine, batch: batch / 4), Engine(lambda engine, batch: batch)
    with make_logger(runs, name="first", tags=["mlp"]) as logger:
        logger.log_params({"optimizer": {"name": "SGD", "lr": 0.1}})
        logger.attach_output_handler(
            trainer, Events.ITERATION_COMPLETED, "train", output_transform=lambda loss: {"loss": loss}
        )
        logger.attach_output_handler(evaluator, Events.COMPLETED, "val", metric_names="all")
        evaluator.add_event_handler(Events.COMPLETED, lambda e: e.state.metrics.update(accuracy=0.5))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
        trainer.run([1, 2], max_epochs=2)
    (records,) = runs.read()
    rows = [{name: value for name, value in row.items() if name[0] != "_"} for row in runs.rows(records)]
    train = [
        {"train/loss": loss, "glowplug/step": step} for step, loss in enumerate([0.25, 0.5, 0.25, 0.5], 1)
    ]
    val = [{"val/accuracy": 0.5, "glowplug/step": epoch} for epoch in (1, 2)]
    assert rows == [*train[:2], val[0], *train[2:], val[1]]
    (run,) = runs.of_type(records, "run")
    assert (run["project"], run["display_name"], run["tags"]) == ("digits", "first", ["mlp"])
    assert {"optimizer": {"name": "SGD", "lr": 0.1}} in [
        config["update"] for config in runs.of_type(records, "config")
    ]
    (axis,) = runs.of_type(records, "metric")
    assert (axis["glob_name"], axis["step_metric"]) == ("*", "glowplug/step")


def test_times_are_those_of_the_call(runs):
    """A row has the time of the log call, not of the delivery."""
    with make_logger(runs) as logger:
        logger.log_scalars({"loss": 1.0}, 1, 1234.5)
    (records,) = runs.read()
    assert runs.rows(records)[0]["_timestamp"] == 1234.5


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(None, 0), (RunOutcome.COMPLETED, 0), (RunOutcome.TERMINATED, 0), (RunOutcome.FAILED, 1), (RunOutcome.INTERRUPTED, 130)],
)  # fmt: skip
def test_exit_code(runs, outcome, code):
    """The exit code of the W&B run reflects the outcome of the engine's run."""
    logger = make_logger(runs)
    logger.log_scalars({"loss": 1.0}, 1)
    logger.close(outcome)
    (records,) = runs.read()
    assert runs.of_type(records, "exit")[0].get("exit_code", 0) == code


def test_histogram_and_images(runs):
    """A histogram contains only the finite values; an image and a figure are stored as image files."""
    pixels = np.linspace(0, 255, 48).astype(np.uint8).reshape(4, 4, 3)
    with make_logger(runs) as logger:
        logger.log_histogram("weights", np.array([0.0, 1.0, np.nan, np.inf]), 1)
        logger.log_image("image", pixels, 2)
        logger.log_figure("figure", pixels, 3)
    (records,) = runs.read()
    weights, image, figure = runs.rows(records)
    assert sum(weights["weights.values"]) == 2
    assert (weights["weights.bins"][0], weights["weights.bins"][-1]) == (0, 1)
    for row, name in ((image, "image"), (figure, "figure")):
        assert row[f"{name}._type"] == "image-file"
        assert list(runs.folder.glob(f"wandb/offline-run-*/files/{row[f'{name}.path']}"))


def test_a_run_of_the_users_own(runs):
    """A run passed as ``run`` receives the records of the logger and of the user, and stays open after close()."""
    with wandb.init(dir=runs.folder, reinit="create_new") as run:
        with WandbLogger(run=run, timeout=60) as logger:
            logger.log_scalars({"ours": 1.0}, 1)
        run.log({"theirs": 2.0})
    (records,) = runs.read()
    assert [sorted(name for name in row if name[0] != "_") for row in runs.rows(records)] == [
        ["glowplug/step", "ours"],
        ["theirs"],
    ]


def test_an_active_run_is_left_alone(runs):
    """Without ``run=`` the logger starts a new run and neither uses nor finishes the active one."""
    with wandb.init(dir=runs.folder) as active:
        with make_logger(runs) as logger:
            logger.log_scalars({"ours": 1.0}, 1)
        assert wandb.run is active
        active.log({"theirs": 2.0})
    logged = [
        {name for row in runs.rows(records) for name in row if name[0] != "_"} for records in runs.read()
    ]
    assert logged == [{"theirs"}, {"glowplug/step", "ours"}]


def test_run_and_what_describes_a_new_one(runs):
    """Passing a run together with arguments for a new one raises an error that lists the arguments to remove."""
    with (
        wandb.init(dir=runs.folder) as run,
        pytest.raises(ValueError, match=r"do not combine it with arguments for a new run: tags$"),
    ):
        WandbLogger(run=run, tags=["mlp"])


def test_events_of_a_fake_engine(runs):
    """An event of a fake engine is a row with the step of the event."""
    engine = FakeEngine()
    with make_logger(runs) as logger:
        logger.attach(engine, Events.EPOCH_COMPLETED, OutputHandler("val", metric_names="all"))
        engine.fire(Events.EPOCH_COMPLETED, epoch=3, metrics={"accuracy": 0.5})
    (records,) = runs.read()
    assert [(row["val/accuracy"], row["glowplug/step"]) for row in runs.rows(records)] == [(0.5, 3)]


@pytest.mark.parametrize("shape", [(3, 1, 5), (5, 1, 3), (5, 6, 1), (5, 6, 4)])
def test_shapes_of_images(runs, shape):
    """An image keeps its height and width, also if one of them or the number of channels is 1."""
    with make_logger(runs) as logger:
        logger.log_image("image", np.zeros(shape, np.uint8), 1)
    (records,) = runs.read()
    (row,) = runs.rows(records)
    expected = shape[1:] if shape[0] == 3 else shape[:2]
    assert (row["image.height"], row["image.width"]) == expected


def test_texts_and_interactive_figures(runs):
    """A text is stored as preformatted HTML, an interactive figure as its own HTML."""

    class Figure:
        def to_html(self):
            return "<html>a chart</html>"

    with make_logger(runs) as logger:
        logger.log_text("note", "größer < kleiner", 1)
        logger.log_figure("chart", Figure(), 2)
    (records,) = runs.read()
    pages = [
        next(runs.folder.glob(f"wandb/offline-run-*/files/{row[f'{name}.path']}")).read_text(encoding="utf-8")
        for row, name in zip(runs.rows(records), ("note", "chart"), strict=True)
    ]
    assert pages == ["<pre>größer &lt; kleiner</pre>", "<html>a chart</html>"]


def test_artifacts(runs, tmp_path):
    """A file is stored as an artifact of the run, as it was when it was logged; a second one is another version."""
    (tmp_path / "best.pt").write_text("weights")
    with make_logger(runs, id="abc12345") as logger:
        logger.log_artifact(tmp_path / "best.pt", "check/points")
        (tmp_path / "best.pt").unlink()
        assert logger.flush()
        assert logger.counts == (1, 0, 0)
    (records,) = runs.read()
    (request,) = [
        record["request"]["log_artifact"]["artifact"]
        for record in records
        if record["type"] == "request" and "log_artifact" in record["request"]
    ] or runs.of_type(records, "artifact")
    assert request["name"].startswith("run-abc12345-check_points-")
    assert [entry["path"] for entry in request["manifest"]["contents"]] == ["best.pt"]


def test_rows_written_again(runs, monkeypatch):
    """If the answer to a write is lost, the rows are written again, but W&B stores them once (L3)."""
    lost = iter([True, False, True])
    next_step = module._next_step

    def query(run):
        step = next_step(run)
        if step and next(lost, False):
            raise ConnectionError("the answer is lost")
        return step

    monkeypatch.setattr(module, "_next_step", query)
    with make_logger(runs) as logger:
        for step in range(5):
            logger.log_scalars({"loss": step}, step)
        assert not logger.flush(1.5)
        for step in range(5, 8):
            logger.log_scalars({"loss": step}, step)
        while not logger.flush():
            pass
        assert logger.counts == (8, 0, 0)
    (records,) = runs.read()
    assert [(row["loss"], row["glowplug/step"]) for row in runs.rows(records)] == [(n, n) for n in range(8)]


def test_one_refused_record(runs, monkeypatch):
    """A row that W&B refuses costs no other row of its batch, and no row is repeated."""
    log = wandb.Run.log

    def refuse(run, data, **options):
        if data.get("loss") == 3:
            raise TypeError("cannot be stored")
        log(run, data, **options)

    monkeypatch.setattr(wandb.Run, "log", refuse)
    with make_logger(runs) as logger:
        for step in range(8):
            logger.log_scalars({"loss": step}, step)
        logger.flush()
        assert logger.counts == (7, 1, 0)
    (records,) = runs.read()
    assert [row["loss"] for row in runs.rows(records)] == [0, 1, 2, 4, 5, 6, 7]


def test_resumed_run(runs):
    """A logger whose state is loaded continues the W&B run, and logs the steps once (L3, L-042)."""
    states = []

    def step(engine, batch):
        if engine.state.iteration == 4 and len(states) == 1:
            raise RuntimeError("the run fails")
        return batch

    def trainer_of(logger):
        trainer = Engine(step)
        logger.attach_output_handler(
            trainer, Events.ITERATION_COMPLETED, "train", output_transform=lambda loss: {"loss": loss}
        )
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=2), lambda engine: states.append(engine.state_dict())
        )
        return trainer

    with make_logger(runs) as first, pytest.raises(RuntimeError, match="the run fails"):
        trainer_of(first).run(range(6))
    with make_logger(runs) as second:
        trainer = trainer_of(second)
        trainer.load_state_dict(states[0])
        states.append(None)
        trainer.run(range(6))
    assert first.run_info() == second.run_info()
    records = runs.read()
    assert {runs.of_type(each, "run")[0]["run_id"] for each in records} == {first.run_info()["run_id"]}
    rows = [[row["glowplug/step"] for row in runs.rows(each)] for each in records]
    # The state was saved after step 2, and the first run logged step 3.
    assert rows == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (None, 59.0),
        ({"disable_git": True}, 59.0),
        (wandb.Settings(disable_git=True), 59.0),
        ({"finish_timeout": 5.0}, 5.0),
        (wandb.Settings(finish_timeout=5.0), 5.0),
    ],
)
def test_time_limit_of_the_end(runs, settings, limit):
    """W&B gives up an upload before close() does, so its exit hook cannot keep the process alive; the user's limit wins (L1)."""
    with make_logger(runs, settings=settings) as logger:
        found = logger.run.settings
        assert found.finish_timeout == limit
        assert found.disable_git is (settings is not None and limit == 59.0)
        # Settings that belong to the user do not change.
        assert getattr(settings, "finish_timeout", limit) in (0.0, limit)


def test_disabled(runs):
    """With mode="disabled", a script runs unchanged and W&B stores nothing."""
    with make_logger(runs, mode="disabled") as logger:
        logger.log_params({"lr": 0.1})
        logger.log_scalars({"loss": 1.0}, 1)
        assert logger.flush()
    assert logger.counts == (2, 0, 0)
    assert runs.read() == []


SCRIPT = """
import sys
from glowplug_wandb import WandbLogger

logger = WandbLogger("digits", timeout=60)
print(sorted({"wandb", "numpy", "torch"} & set(sys.modules)))
for step in range(3):
    logger.log_scalars({"loss": 1.0}, step)
    if step == int(sys.argv[1]):
        logger.flush()
"""


@pytest.mark.parametrize("flushed", [-1, 1], ids=["before W&B is imported", "while it runs"])
def test_a_script_that_ends_without_close(runs, flushed):
    """W&B is imported at the first record; a logger that is never closed delivers all records and finishes its run at exit."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(flushed)],
        cwd=runs.folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")
    (records,) = runs.read()
    assert [row["glowplug/step"] for row in runs.rows(records)] == [0, 1, 2]
    assert len(runs.of_type(records, "exit")) == 1
