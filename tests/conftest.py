"""Fixtures for the tests of all distributions; this module imports only pytest, hypothesis and the standard library."""

import contextlib
import gc
import inspect
import signal
import textwrap

import pytest
from ranks import run_on_ranks

with contextlib.suppress(ImportError):
    # Some environments do not have hypothesis. A busy machine is not a fault of a test.
    from hypothesis import HealthCheck, settings

    settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("shared machine")


@pytest.fixture(autouse=True, scope="session")
def sigint():
    """Let the processes that tests start react to SIGINT, also where a shell runs the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory, monkeypatch):
    """Keep undelivered records out of the user's state folder, and return the folder that is used instead."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("GLOWPLUG_HOME", str(folder))
    return folder


@pytest.fixture
def run_ranks(tmp_path):
    """Run a self-contained function ``f(rank)`` in real gloo processes; return its results, which JSON must support."""

    def run(function, size=2):
        return run_on_ranks(textwrap.dedent(inspect.getsource(function)), function.__name__, tmp_path, size)

    return run


@pytest.fixture
def no_gc():
    """Disable the garbage collector, so that an object is freed only when its reference count is 0."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
