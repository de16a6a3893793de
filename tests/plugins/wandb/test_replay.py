"""Tests of what `glowplug spool replay` needs of a run that could not be started."""

import json
import os
import subprocess
import sys

import wandb

from glowplug_wandb import WandbLogger

DOWN = "http://127.0.0.1:9"
SCRIPT = """
from glowplug_wandb import WandbLogger

logger = WandbLogger(
    "digits", timeout=1, spool="spool", mode="online", name="first", notes="a note", tags=("mlp", "small"), group="study",
    job_type="train", config={"lr": 0.1, "optimizer": {"name": "SGD"}}, fork_from="xyz?_step=3", id="abc",
    settings={"base_url": "http://user:canary@127.0.0.1:9", "init_timeout": 1, "api_key": "canary" + "a" * 40},
)
logger.log_scalars({"loss": 0.5}, 1)
logger.close()
"""


def run(runs, *command):
    """Run this interpreter in the folder of the runs."""
    ended = subprocess.run(
        [sys.executable, *command], cwd=runs.folder, env=dict(os.environ), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_description(runs):
    """A replay creates the run with its name, notes, tags, group, config and server, and without passwords."""
    run(runs, "-c", SCRIPT)
    (spool,) = (runs.folder / "spool").glob("*.spool")
    assert b"canary" not in b"".join(path.read_bytes() for path in spool.parent.iterdir() if path.is_file())
    run(runs, "-m", "glowplug", "spool", "replay", "--folder", "spool", "--option", "mode=offline")
    (records,) = runs.read()
    (stored,) = runs.of_type(records, "run")
    fields = ("run_id", "display_name", "notes", "tags", "run_group", "job_type")
    assert [stored[field] for field in fields] == [
        "abc",
        "first",
        "a note",
        ["mlp", "small"],
        "study",
        "train",
    ]
    assert stored["config"]["update"].items() >= {"lr": 0.1, "optimizer": {"name": "SGD"}}.items()


def test_options(runs, monkeypatch):
    """Before the run begins, the options describe it; afterwards they only say where it is."""
    description = {"name": "first", "tags": ["mlp"], "config": {"lr": 0.1}, "fork_from": "xyz?_step=3"}
    logger = WandbLogger("digits", dir=runs.folder, id="abc", timeout=60, **description)
    monkeypatch.setenv("WANDB_BASE_URL", "https://user:canary@wandb.example.com")
    place = {
        "project": "digits",
        "dir": str(runs.folder),
        "mode": "offline",
        "settings": {"base_url": "https://wandb.example.com"},
    }
    assert logger.replay_options() == description | place
    with logger:
        logger.log_scalars({"loss": 1.0}, 1)
        assert logger.flush()
        assert logger.replay_options() == place


def test_settings_object(runs):
    """The server is found in a settings object, too, and a server that the user did not choose is not saved."""
    chosen = WandbLogger(settings=wandb.Settings(base_url=DOWN, api_key="canary" + "a" * 40))
    assert chosen.replay_options()["settings"] == {"base_url": DOWN}
    assert "canary" not in json.dumps(chosen.replay_options())
    assert "settings" not in WandbLogger(settings=wandb.Settings(quiet=True)).replay_options()
