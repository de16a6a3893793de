"""The examples in the docstrings of the torch-free modules."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import warnings

import pytest

import glowplug

# The examples that need torch run beside the other tests of these packages; __main__ runs the command.
NEED_TORCH = {"metrics", "supervised"}
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(glowplug.__path__, "glowplug.")
    if name.split(".")[1] not in {*NEED_TORCH, "__main__"}
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    """The examples of the module run."""
    module = importlib.import_module(name)
    if ">>> import torch" in inspect.getsource(module):
        pytest.importorskip("torch", reason="an example needs torch")
    with warnings.catch_warnings():
        results = doctest.testmod(module)
    assert results.failed == 0


@pytest.mark.parametrize("name", ["engine", "events", "handles", "state"])
def test_modules_have_examples(name):
    """The main modules have docstring examples."""
    module = importlib.import_module(f"glowplug.{name}")
    assert sum(bool(test.examples) for test in doctest.DocTestFinder().find(module)) > 0
