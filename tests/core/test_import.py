"""Import cost, lazy names and public names of glowplug."""

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
    "glowplug.deprecation",
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
    """Run a script in a new interpreter, and return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light():
    """Importing glowplug and running an engine import neither torch nor numpy nor the CLI's libraries."""
    script = """
import sys, glowplug
glowplug.Engine(lambda engine, batch: batch).run([1, 2], max_epochs=2)
heavy = {"torch", "numpy", "pluggy", "click", "rich", "packaging", "platformdirs", "importlib.metadata", "pytest"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run(script) == "[]"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_module_imports_without_torch(name):
    """A torch-free module can be imported where torch and numpy are missing."""
    script = f"import sys; sys.modules.update(torch=None, numpy=None); import glowplug.{name}"
    assert run(script) == ""


def test_engine_runs_without_torch():
    """An engine runs, saves and loads where torch and numpy are missing."""
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
    """glowplug.testing imports pytest for contracts only."""
    script = """
import sys
from glowplug.testing import FakeEngine
assert "pytest" not in sys.modules
from glowplug_testing import EngineContract
print(EngineContract.__name__, "pytest" in sys.modules)
"""
    assert run(script) == "EngineContract True"


@pytest.mark.parametrize("name", PUBLIC)
def test_all_lists_the_public_names(name):
    """`__all__` lists exactly the public names of the module."""
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
    """Return whether a public name is defined in the module rather than imported for internal use."""
    home = getattr(getattr(module, name), "__module__", None)
    return home == module.__name__ or (
        hasattr(module, "__path__") and str(home).startswith(f"{module.__name__}.")
    )


def test_lazy_names():
    """A lazy name is imported on first access, is the object of its module, and is cached."""
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
    """`import glowplug as ignite; ignite.metrics` works without importing the submodule."""
    pytest.importorskip("torch", reason="the metrics need torch")
    assert run(f"import glowplug as ignite; print(ignite.{name.removeprefix('glowplug.')}.__name__)") == name


@pytest.mark.parametrize("module", [glowplug, glowplug.testing], ids=lambda module: module.__name__)
def test_unknown_name(module):
    """An unknown name raises an AttributeError."""
    with pytest.raises(AttributeError, match=rf"module '{module.__name__}' has no attribute 'EarlyStoping'"):
        _ = module.EarlyStoping


def test_version():
    """`__version__` equals the version in the distribution's metadata."""
    from importlib.metadata import version

    assert glowplug.__version__ == version("glowplug")
