"""The examples in the docstrings run."""

import doctest
import importlib

import pytest

MODULES = [
    "distributed",
    "exceptions",
    "metric",
    "metric_arithmetic",
    "metric_sync",
    "metrics_lambda",
    "supervised",
    "tbptt",
    "usages",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    """Each module has examples, and they show what they say."""
    failed, attempted = doctest.testmod(importlib.import_module(f"glowplug.{name}"))
    assert attempted
    assert not failed
