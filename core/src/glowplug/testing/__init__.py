"""What tests of handlers, loggers and metrics are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.testing.fake_engine import FakeEngine

if TYPE_CHECKING:
    from glowplug.testing.engine_contract import EngineContract

__all__ = ["EngineContract", "FakeEngine"]

# These need pytest, so they are imported when first asked for (PEP 562).
_LAZY = {"EngineContract": "glowplug.testing.engine_contract"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'glowplug.testing' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
