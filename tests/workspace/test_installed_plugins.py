"""Imports with all distributions of this project installed, and errors for missing ones."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from types import FunctionType

import pytest

from glowplug import Metric
from glowplug.plugins import FIRST_PARTY, Registry

HEAVY = (
    "torch",
    "numpy",
    "mlflow",
    "tensorboard",
    "tqdm",
    "wandb",
    "pluggy",
    "click",
    "rich",
    "packaging",
    "importlib.metadata",
)


def run(code, **settings):
    """Run code in a new process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GLOWPLUG_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def imported_by(code):
    """Return the names of the heavy modules and of the plugins that this code imports."""
    names = f"[m for m in sys.modules if m in {HEAVY!r} or m.startswith('glowplug_')]"
    ended = run(f"import sys\n{code}\nimport json\nprint(json.dumps(sorted({names})))")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_import_of_glowplug_imports_nothing_heavy():
    """`import glowplug` imports no heavy library and no plugin, and does not discover plugins."""
    assert imported_by("import glowplug") == []


@pytest.mark.parametrize(
    "module", ["handlers", "metrics", "plugins", "hookspecs", "cli", "cli._subprocess", "exceptions"]
)
def test_import_of_a_module_of_the_core_imports_no_library_of_a_plugin(module):
    """These modules of the core import neither torch nor a library of a plugin."""
    heavy = set(imported_by(f"import glowplug.{module}")) & {
        "torch",
        "numpy",
        "mlflow",
        "tensorboard",
        "tqdm",
    }
    assert heavy == set()


def test_loading_all_plugins_imports_nothing_heavy():
    """Loading the plugins imports the plugin modules, but not the libraries that the plugins need."""
    found = imported_by("from glowplug.plugins import get_registry\nassert get_registry().plugins")
    assert not {"torch", "numpy", "mlflow", "tensorboard", "tqdm", "wandb"} & set(found)
    assert "glowplug_mlflow._plugin" in found


def test_list_imports_no_plugin():
    """`glowplug plugins list` imports no plugin into its own process."""
    found = imported_by("from glowplug.cli import main\nmain(['plugins', 'list'], standalone_mode=False)")
    assert [module for module in found if module.startswith("glowplug_")] == []
    assert not {"torch", "numpy", "mlflow", "tensorboard", "pluggy"} & set(found)


@pytest.mark.parametrize(("name", "distribution"), FIRST_PARTY.items())
def test_name_that_is_not_installed_says_what_to_install(name, distribution):
    """Importing a first-party name without its plugin raises an error with the command that installs the plugin."""
    with pytest.raises(ImportError, match=f"pip install {distribution}"):
        Registry([]).resolve("handler", name)


def test_import_from_a_blocked_plugin():
    """`from glowplug.handlers import MLflowLogger` is an ImportError that names the setting that blocks its plugin."""
    ended = run("from glowplug.handlers import MLflowLogger", GLOWPLUG_PLUGINS="")
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("glowplug.exceptions.PluginNotFoundError: ")
    assert last.endswith(
        "It is in glowplug-mlflow, which is blocked by GLOWPLUG_PLUGINS=; change this setting"
    )


def test_table_of_first_party_names_is_what_the_plugins_offer():
    """FIRST_PARTY contains every name that the plugins offer, with its distribution."""
    entry_points = [
        entry_point
        for entry_point in importlib.metadata.entry_points(group="glowplug")
        if entry_point.dist.name.startswith("glowplug-")
    ]
    registry = Registry.from_entry_points(entry_points, {})
    assert registry.failures == ()
    offered = {spec.name: plugin.distribution for plugin in registry.plugins for spec in plugin.offers}
    assert offered == FIRST_PARTY


def test_every_first_party_target_can_be_used():
    """Each first-party name resolves to a class, or to a function that returns an instance, such as IoU."""
    registry = Registry.from_entry_points(
        importlib.metadata.entry_points(group="glowplug"), {"GLOWPLUG_PLUGINS": "glowplug-*"}
    )
    for plugin in registry.plugins:
        for offer in plugin.offers:
            target = registry.resolve(offer.kind, offer.name)
            assert registry.origin_of(target) is plugin
            if isinstance(target, FunctionType):
                continue
            if offer.kind in {"handler", "logger"}:
                assert callable(target.attach)
            elif offer.kind == "metric":
                assert issubclass(target, Metric)


def test_describe_says_which_distribution_each_handler_is_from(tmp_path):
    """`engine.describe()` names the plugin, distribution and version of real handlers, a logger and a metric."""
    code = """
import sys
from glowplug import Engine, Events
from glowplug.handlers import EarlyStopping, ModelCheckpoint, TensorboardLogger, TerminateOnNan
from glowplug.loggers import OutputHandler
from glowplug.metrics import Accuracy

trainer = Engine(lambda engine, batch: batch)
Accuracy().attach(trainer, "accuracy")
checkpoint = ModelCheckpoint(sys.argv[1])
checkpoint.attach(trainer, Events.EPOCH_COMPLETED, {"trainer": trainer})
with TensorboardLogger(log_dir=sys.argv[1]) as logger:
    logger.attach(trainer, Events.EPOCH_COMPLETED, OutputHandler("training", metric_names="all"))
    EarlyStopping(patience=3, score_function="accuracy").attach(trainer, Events.EPOCH_COMPLETED)
    trainer.attach(TerminateOnNan())
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), print)
    print(trainer.describe())
"""
    ended = run(f"import sys; sys.argv[1:] = [{str(tmp_path)!r}]\n{code}")
    assert ended.returncode == 0, ended.stderr
    at_epoch_end = [line for line in ended.stdout.splitlines() if line.startswith("Events.EPOCH_COMPLETED ")]
    version = importlib.metadata.version
    expected = [
        ("metrics", "Accuracy.completed", "metrics (glowplug-metrics {})"),
        ("user", "EarlyStopping", "early-stopping (glowplug-early-stopping {})"),
        ("user", "TerminateOnNan.read_late_results", "terminate-on-nan (glowplug-terminate-on-nan {})"),
        ("user", "every=2", "print", "builtins"),
        ("logging", "TensorboardLogger <- OutputHandler", "tensorboard (glowplug-tensorboard {})"),
        ("checkpoint", "ModelCheckpoint", "model-checkpoint (glowplug-model-checkpoint {})"),
    ]
    assert [tuple(re.split(r"\s{2,}", line)[1:]) for line in at_epoch_end] == [
        (*cells, origin.format(version(origin.split("(")[1].split()[0])) if "(" in origin else origin)
        for *cells, origin in expected
    ]
    assert "TerminateOnNan" in ended.stdout
