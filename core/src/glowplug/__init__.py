"""glowplug: a training-loop engine for PyTorch whose handlers are plug-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.dispatch import Phase
from glowplug.engine import Engine
from glowplug.events import CallableEventWithFilter, EventEnum, Events, EventsList
from glowplug.handles import RemovableEventHandle
from glowplug.state import RunOutcome, State

if TYPE_CHECKING:
    from glowplug.metric import Metric
    from glowplug.supervised import create_supervised_evaluator, create_supervised_trainer

__version__ = "0.1.0"

__all__ = [
    "CallableEventWithFilter",
    "Engine",
    "EventEnum",
    "Events",
    "EventsList",
    "Metric",
    "Phase",
    "RemovableEventHandle",
    "RunOutcome",
    "State",
    "create_supervised_evaluator",
    "create_supervised_trainer",
]

# These need torch, whose import takes seconds, so they are imported when first asked for (PEP 562).
_LAZY = {
    "Metric": "glowplug.metric",
    "create_supervised_evaluator": "glowplug.supervised",
    "create_supervised_trainer": "glowplug.supervised",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'glowplug' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
