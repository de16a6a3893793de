"""The distributions, installed from wheels."""

import importlib
import importlib.metadata
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from glowplug.cli import main

pytestmark = pytest.mark.skipif(
    os.environ.get("GLOWPLUG_WHEELS") != "1", reason="needs distributions that are installed from wheels"
)

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(
    path.name.removeprefix("glowplug-")
    for path in (ROOT / "plugins").glob("glowplug-*")
    if path.name != "glowplug-testing"
)
PACKAGES = {
    "glowplug": "glowplug",
    **{f"glowplug-{name}": f"glowplug_{name.replace('-', '_')}" for name in PLUGINS},
}


@pytest.mark.parametrize(("distribution", "package"), PACKAGES.items(), ids=PACKAGES)
def test_wheel_is_complete(distribution, package):
    """A wheel contains its package, py.typed, licence and README, and the package is imported from the installed wheel."""
    metadata = importlib.metadata.distribution(distribution)
    files = {str(file) for file in metadata.files}
    assert f"{package}/py.typed" in files
    assert any(file.endswith("licenses/LICENSE") for file in files)
    assert metadata.metadata["License-Expression"] == "BSD-3-Clause"
    assert len(metadata.metadata.get_payload()) > 200
    folder = Path(importlib.import_module(package).__file__).parent
    assert folder == Path(metadata.locate_file(package))
    assert {f"{package}/{path.relative_to(folder)}" for path in folder.rglob("*.py")} <= files


def test_plugins_are_found_and_whole():
    """`glowplug plugins list` shows all plugins, and `glowplug plugins check` finds no fault in them."""
    run = CliRunner().invoke
    listed = json.loads(run(main, ["plugins", "list", "--json"]).stdout)
    assert [(plugin["name"], plugin["status"]) for plugin in listed] == [(name, "ok") for name in PLUGINS]
    for name in PLUGINS:
        checked = run(main, ["plugins", "check", name])
        assert checked.exit_code == 0, checked.output


def test_a_run_with_handlers_from_wheels():
    """Handlers of several wheels are imported by name and work in one run."""
    from glowplug import Engine, Events
    from glowplug.handlers import EarlyStopping, TerminateOnNan
    from glowplug.metrics import Average

    scores = iter([1.0, 2.0, 1.5, 1.5, 3.0])
    trainer, evaluator = Engine(lambda engine, batch: batch), Engine(lambda engine, batch: batch)
    Average().attach(evaluator, "score")
    trainer.attach(TerminateOnNan())
    EarlyStopping(patience=2, score_function="score", trainer=trainer).attach(evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([next(scores)]))
    assert trainer.run([1.0, 2.0], max_epochs=5).epoch == 4
