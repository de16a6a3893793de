"""What importing glowplug costs, and which names it has."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest

import glowplug
import glowplug.testing
from glowplug.plugins import Registry, use_registry

PUBLIC = [
    "glowplug",
    "glowplug.distributed",
    "glowplug.engine",
    "glowplug.exceptions",
    "glowplug.handlers",
    "glowplug.hookspecs",
    "glowplug.loggers",
    "glowplug.metrics",
    "glowplug.plugins",
    "glowplug.testing",
    "glowplug.typing",
    "glowplug.utils",
]

TORCH_FREE = [
    "cli",
    "distributed",
    "engine",
    "events",
    "handlers",
    "handles",
    "hookspecs",
    "loggers",
    "metrics",
    "plugins",
    "state",
    "testing",
    "typing",
    "utils",
]


def run(script):
    """Run a script in a new interpreter, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light():
    """``import glowplug`` and a run import neither torch nor numpy nor what the plugins and the command need."""
    script = """
import sys, glowplug
glowplug.Engine(lambda engine, batch: batch).run([1, 2], max_epochs=2)
heavy = {"torch", "numpy", "pluggy", "click", "rich", "packaging", "platformdirs", "importlib.metadata", "pytest"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run(script) == "[]"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_module_is_free_of_torch(name):
    """A torch-free module can be imported where torch and numpy cannot be."""
    script = f"import sys; sys.modules.update(torch=None, numpy=None); import glowplug.{name}"
    assert run(script) == ""


def test_engine_runs_without_torch():
    """An engine runs, and its state is saved and loaded, where torch and numpy cannot be imported."""
    script = """
import sys
sys.modules.update(torch=None, numpy=None)
from glowplug import Engine, Events
first, second = (Engine(lambda engine, batch: batch) for _ in range(2))
saved = []
first.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: saved.append(e.state_dict()))
first.run([1, 2], max_epochs=2)
second.load_state_dict(saved[0])
print(second.run([1, 2]).output)
"""
    assert run(script) == "2"


def test_testing_needs_pytest_for_contracts_only():
    """``glowplug.testing`` has the fake without importing pytest, and the contract with it."""
    script = """
import sys
from glowplug.testing import FakeEngine
assert "pytest" not in sys.modules
from glowplug_testing import EngineContract
print(EngineContract.__name__, "pytest" in sys.modules)
"""
    assert run(script) == "EngineContract True"


@pytest.mark.parametrize("name", PUBLIC)
def test_all_is_what_is_public(name):
    """``__all__`` holds the public names of the module, no more and no less."""
    pytest.importorskip("torch", reason="some lazy names need torch")
    module = importlib.import_module(name)
    with use_registry(Registry([])):
        public = {
            name
            for name in dir(module)
            if not name.startswith("_") and not isinstance(getattr(module, name), types.ModuleType)
        }
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) <= public
    strangers = public - set(module.__all__) - {"lazy_exports"}
    assert {name for name in strangers if is_defined_in(module, name)} == set()


def is_defined_in(module, name):
    """Return whether a public name belongs to the module, rather than being imported for its own use."""
    home = getattr(getattr(module, name), "__module__", None)
    return home == module.__name__ or (
        hasattr(module, "__path__") and str(home).startswith(f"{module.__name__}.")
    )


def test_lazy_names():
    """A lazy name is imported when first requested, is the object of its own module, and stays."""
    pytest.importorskip("torch", reason="some lazy names need torch")
    for home in ("exceptions", "metrics", "supervised"):
        module = importlib.import_module(f"glowplug.{home}")
        for name in set(module.__all__) & set(glowplug.__all__):
            glowplug.__dict__.pop(name, None)
            value = getattr(glowplug, name)
            assert value is getattr(module, name)
            assert glowplug.__dict__[name] is value


@pytest.mark.parametrize("name", PUBLIC[1:])
def test_submodules_are_attributes(name):
    """``import glowplug as ignite; ignite.metrics`` works without an import of the submodule."""
    pytest.importorskip("torch", reason="the metrics need torch")
    assert run(f"import glowplug as ignite; print(ignite.{name.removeprefix('glowplug.')}.__name__)") == name


@pytest.mark.parametrize("module", [glowplug, glowplug.testing], ids=lambda module: module.__name__)
def test_unknown_name(module):
    """A name that is not there is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match=rf"module '{module.__name__}' has no attribute 'EarlyStoping'"):
        _ = module.EarlyStoping


def test_version_is_that_of_the_distribution():
    """``__version__`` is what the package's metadata says."""
    from importlib.metadata import version

    assert glowplug.__version__ == version("glowplug")
