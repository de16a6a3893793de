"""Tests of WandbLogger: the contract of glowplug's test kit, and the files of offline runs as wandb-core reads them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import wandb
from acme_glowplug_wandb import WandbLogger

from glowplug import Engine, Events, RunOutcome
from glowplug_testing import LoggerCase, LoggerContract

OWN = ("_", "glowplug/")


class TestWandbLogger(LoggerContract):
    @pytest.fixture
    def case(self, runs):
        """Describe how to create a logger and how to read what it wrote."""

        def read():
            return [
                (name, row["glowplug/step"], float(value))
                for records in runs.read()
                for row in runs.rows(records)
                for name, value in row.items()
                if not name.startswith(OWN) and "._" not in name
            ]

        def borrowed():
            run = runs.start()
            return WandbLogger(run=run), lambda: not run._is_finished

        return LoggerCase(
            make=lambda **options: WandbLogger("digits", dir=runs.folder, **options),
            read=read,
            borrowed=borrowed,
            plugin="acme_glowplug_wandb._plugin",
        )


def make_logger(runs, **options):
    """Return a logger with a timeout that is long enough for a busy machine."""
    return WandbLogger("digits", dir=runs.folder, timeout=60, **options)


def test_a_run(runs):
    """A trainer and its evaluator log to one run; each row has glowplug's step, even if steps do not increase."""
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
        pytest.raises(ValueError, match=r"do not pass project, tags, which apply to a new run"),
    ):
        WandbLogger(run=run, tags=["mlp"])


SCRIPT = """
import sys
from acme_glowplug_wandb import WandbLogger

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
