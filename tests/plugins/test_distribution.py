"""Rules for all installed plugin distributions."""

import ast
import doctest
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "plugins"
# The libraries that each plugin may require; the isolated environment of any other plugin does not contain them.
LIBRARIES = {
    "glowplug-lr-finder": {"matplotlib"},
    "glowplug-metrics": {"scikit-learn"},
    "glowplug-mlflow": {"matplotlib", "mlflow", "mlflow-skinny", "psutil", "scikit-learn", "tqdm"},
    "glowplug-model-checkpoint": {"safetensors", "s3fs", "moto"},
    "glowplug-monitors": {"psutil", "torchinfo"},
    "glowplug-progress": {"psutil", "tqdm"},  # notebooks need psutil
    "glowplug-schedulers": {"matplotlib"},
    "glowplug-tensorboard": {"tensorboard"},
    "glowplug-testing": {"pytest"},
    "glowplug-torchmetrics": {"torchmetrics"},
    "glowplug-wandb": {"wandb"},
}
# Public names that are not offered: base classes, results, exceptions and warnings.
NOT_OFFERED = {
    "BaseSaveHandler",
    "ConfusionTable",
    "DamagedCheckpointError",
    "EpochMetricWarning",
    "Policy",
    "Saved",
    "StopReason",
}
PUBLIC = {
    "glowplug",
    *(
        f"glowplug.{module}"
        for module in (
            "deprecation",
            "distributed",
            "engine",
            "exceptions",
            "hookspecs",
            "loggers",
            "metrics",
            "plugins",
            "testing",
            "testing.pytest_plugin",
            "typing",
        )
    ),
}
HEAVY = {"torch", "numpy", "mlflow", "tensorboard", "tqdm", "sklearn", "torchmetrics", "wandb"}


def package_of(distribution):
    """Return the name of a distribution's import package."""
    return distribution.replace("-", "_")


PLUGINS = sorted(
    path.name for path in FOLDER.iterdir() if importlib.util.find_spec(package_of(path.name)) is not None
)
MODULES = [
    f"{package_of(plugin)}.{module.name}"
    for plugin in PLUGINS
    # The environment of one plugin also contains glowplug-testing, which has an environment itself.
    if plugin != "glowplug-testing" or len(PLUGINS) != 2
    for module in pkgutil.iter_modules([str(FOLDER / plugin / "src" / package_of(plugin))])
]
each_plugin = pytest.mark.parametrize("plugin", PLUGINS)
# glowplug-testing is a pytest plugin and has no offers.
each_offering = pytest.mark.parametrize(
    "plugin", [plugin for plugin in PLUGINS if plugin != "glowplug-testing"]
)


def run(script):
    """Run a script in a subprocess and return its output."""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # from MLflow's queries
@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module, tmp_path, monkeypatch):
    """Docstring examples print what they show."""
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@each_offering
def test_public_classes_have_examples(plugin):
    """Each module that defines a public name has an example."""
    package = importlib.import_module(package_of(plugin))
    homes = {getattr(package, name).__module__ for name in package.__all__}
    finder = doctest.DocTestFinder()
    assert all(any(t.examples for t in finder.find(importlib.import_module(home))) for home in homes)


@each_offering
def test_the_hooks_offer_what_is_public(plugin):
    """The targets of offers are the public names, with few exceptions, and the entry point loads the plugin module."""
    package = importlib.import_module(package_of(plugin))
    module = importlib.import_module(f"{package_of(plugin)}._plugin")
    specs = module.glowplug_offers()
    assert specs
    for spec in specs:
        home, _, name = spec.target.partition(":")
        assert getattr(importlib.import_module(home), name) is getattr(package, spec.name)
    assert {spec.name for spec in specs} == set(package.__all__) - NOT_OFFERED
    entry_points = importlib.metadata.entry_points(group="glowplug", name=plugin.removeprefix("glowplug-"))
    assert [entry.load() for entry in entry_points] == [module]


@each_plugin
def test_only_public_names_exist(plugin):
    """Public names can be imported and are listed by dir(); other names raise AttributeError."""
    package = importlib.import_module(package_of(plugin))
    for name in package.__all__:
        # A class may have a second name.
        assert getattr(package, name).__name__ in package.__all__
        assert name in dir(package)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        package.Nothing  # noqa: B018 - the access is the test


@each_plugin
def test_only_public_names_of_the_core_are_imported(plugin):
    """A plugin imports from the core only names in ``__all__`` of public modules, and imports no other plugin."""
    for path in (FOLDER / plugin / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            )
            if not isinstance(node, ast.ImportFrom):
                assert not [name for name in names if name.startswith("glowplug")], path
            elif node.module == "glowplug" or node.module.startswith("glowplug."):
                assert node.module in PUBLIC, f"{path} imports from {node.module}"
                public = {module.removeprefix(f"{node.module}.") for module in PUBLIC}
                assert set(names) <= {*importlib.import_module(node.module).__all__, *public}, path
            elif node.module.startswith("glowplug_"):
                assert node.module.partition(".")[0] == package_of(plugin), path


@each_offering
def test_discovery_imports_nothing_heavy(plugin):
    """The package and its plugin module import no heavy library."""
    script = (
        f"import sys, {package_of(plugin)}, {package_of(plugin)}._plugin; print({HEAVY!r} & set(sys.modules))"
    )
    assert run(script) == "set()"


@each_offering
@pytest.mark.skipif(os.environ.get("GLOWPLUG_ISOLATED") != "1", reason="needs the plugin's own environment")
def test_nothing_else_is_installed(plugin):
    """The isolated environment has the core, glowplug-testing and this plugin, and no library that only other plugins need."""
    names = {dist.metadata["Name"].lower().replace("_", "-") for dist in importlib.metadata.distributions()}
    assert {name for name in names if name.startswith("glowplug-")} == {plugin, "glowplug-testing"}
    assert (
        names & set().union(*LIBRARIES.values())
        <= LIBRARIES.get(plugin, set()) | LIBRARIES["glowplug-testing"]
    )
