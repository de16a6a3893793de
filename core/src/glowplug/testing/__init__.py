"""Tools for testing handlers: an engine without a loop, and fixtures for pytest.

The contracts are in a separate distribution, ``glowplug-testing``; their names resolve here too where it is installed.
"""

from __future__ import annotations

from typing import Any

from glowplug.testing.fake_engine import FakeEngine

__all__ = ["FakeEngine"]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not (name[0].isupper() or name.startswith("check_")):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import glowplug_testing
    except ModuleNotFoundError as error:
        if error.name != "glowplug_testing":
            raise
        raise ImportError(
            f"glowplug.testing has no {name!r}; contracts and checks are in glowplug-testing: pip install glowplug-testing"
        ) from None
    if name not in glowplug_testing.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(glowplug_testing, name)
