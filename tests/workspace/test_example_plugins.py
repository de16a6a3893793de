"""The two example plugins of docs/examples/plugins, installed from wheels."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = {"acme-glowplug-jsonl": "JsonLinesLogger", "acme-glowplug-wandb": "WandbLogger"}
SOURCES = Path(__file__).parents[2] / "docs" / "examples" / "plugins"
each_plugin = pytest.mark.parametrize("name", PLUGINS)

try:
    DISTRIBUTIONS = {name: importlib.metadata.distribution(name) for name in PLUGINS}
except importlib.metadata.PackageNotFoundError as missing:
    pytest.skip(f"{missing.name} is not installed", allow_module_level=True)


def run(*command, folder):
    """Run this interpreter in a folder, with W&B offline; return what it printed."""
    offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    offline |= {
        f"WANDB_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "CACHE", "DATA", "ARTIFACT")
    }
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@each_plugin
def test_it_is_installed_from_its_wheel(name):
    """An example plugin is installed outside the source tree and requires a range of glowplug versions."""
    distribution = DISTRIBUTIONS[name]
    package = name.replace("-", "_")
    assert distribution.read_text("direct_url.json") is None or "editable" not in distribution.read_text(
        "direct_url.json"
    )
    assert Path(distribution.locate_file(f"{package}/logger.py")).is_file()
    assert "glowplug<2,>=0.1" in distribution.requires


def test_they_are_listed(tmp_path):
    """`glowplug plugins list` and `check` report no fault of the example plugins."""
    listed = {
        each["distribution"]: each
        for each in json.loads(run("-m", "glowplug", "plugins", "list", "--json", folder=tmp_path))
    }
    for name, logger in PLUGINS.items():
        assert (listed[name]["status"], listed[name]["findings"]) == ("ok", [])
        assert [(offer["kind"], offer["name"]) for offer in listed[name]["offers"]] == [("logger", logger)]
        run("-m", "glowplug", "plugins", "check", name, folder=tmp_path)


SCRIPT = """
from glowplug import Engine, Events
from glowplug.handlers import JsonLinesLogger, WandbLogger
from glowplug.loggers import OptimizerParamsHandler

class Optimizer:
    param_groups = [{"lr": 0.5}]

trainer = Engine(lambda engine, batch: {"loss": 1.0 / batch})
loggers = [JsonLinesLogger("run.jsonl", timeout=60), WandbLogger("digits", timeout=60)]
for logger in loggers:
    logger.log_params({"seed": 7})
    logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, "training", output_transform=dict)
    logger.attach(trainer, Events.EPOCH_COMPLETED, OptimizerParamsHandler(Optimizer()))
trainer.run([1, 2, 4], max_epochs=2)
for logger in loggers:
    logger.close()
    print(logger.counts)
"""


def test_both_in_a_run(tmp_path):
    """Both loggers, imported by name, store the same records of one run."""
    printed = run("-W", "error", "-c", SCRIPT, folder=tmp_path)
    assert printed.splitlines() == ["Counts(sent=9, dropped=0, pending=0)"] * 2
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["params", *["scalars"] * 8, "end"]
    assert lines[-1]["outcome"] == "completed"
    written = [line["values"] | {"glowplug/step": line["step"]} for line in lines[1:-1]]
    printed = run("-m", "wandb", "leet", "inspect", "--json", folder=tmp_path)
    records = [json.loads(line) for line in printed.splitlines()]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [{name: value for name, value in row.items() if name[0] != "_"} for row in rows] == written
    assert written[2:5] == [
        {"training/loss": 0.25, "glowplug/step": 3},
        {"lr/group_0": 0.5, "glowplug/step": 1},
        {"training/loss": 1.0, "glowplug/step": 4},
    ]


@each_plugin
def test_the_script_of_the_readme_runs(tmp_path, name):
    """The script in the README runs with warnings as errors."""
    script = re.search(r"```python\n(.*?)```", (SOURCES / name / "README.md").read_text(), re.DOTALL)[1]
    assert f"from glowplug.handlers import {PLUGINS[name]}" in script
    run("-W", "error", "-c", script, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name in {"run.jsonl", "wandb"}]
