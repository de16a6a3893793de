"""Tools for testing handlers: a fake engine and pytest fixtures.

The contracts, which are reusable test classes, are in the distribution ``glowplug-testing``. If this distribution is installed,
``glowplug.testing`` also exports the contracts.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from glowplug.testing.fake_engine import FakeEngine

__all__ = ["FakeEngine"]

_CONTRACTS = "glowplug_testing"


def __getattr__(name: str) -> Any:
    if name[0].isupper() or name.startswith("check_"):
        try:
            contracts = import_module(_CONTRACTS)
        except ModuleNotFoundError as error:
            if error.name != _CONTRACTS:
                raise
            raise ImportError(
                f"{name!r} is not part of the core; install contracts and checks with: pip install glowplug-testing"
            ) from None
        if name in contracts.__all__:
            return getattr(contracts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
