"""The examples in the docstrings of the metrics."""

import doctest
import importlib

import pytest

MODULES = [
    "distributed",
    "exceptions",
    "metrics._arithmetic",
    "metrics._metric",
    "metrics._reduce",
    "metrics._usage",
    "supervised._batch",
    "supervised._factories",
    "supervised._optimizer_step",
    "supervised._setup",
    "supervised._steps",
    "supervised._tbptt",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    """Every module has docstring examples, and they run."""
    failed, attempted = doctest.testmod(importlib.import_module(f"glowplug.{name}"))
    assert attempted
    assert not failed
