"""The engine and the table of its handlers."""

from __future__ import annotations

from typing import Any

from glowplug.engine._call import Delegate, describe_handler
from glowplug.engine._deferred import check_function, check_result
from glowplug.engine._engine import Engine
from glowplug.engine._handler_table import HandlerTable
from glowplug.engine._optional import Fault
from glowplug.engine._reference import EngineReference

__all__ = [
    "Delegate",
    "Engine",
    "EngineReference",
    "Fault",
    "HandlerTable",
    "check_function",
    "check_result",
    "describe_handler",
]

# Show the public path in tracebacks, pickles and the name of the engine's logger.
for _exported in (Engine, EngineReference, Fault, HandlerTable):
    _exported.__module__ = __name__


def __getattr__(name: str) -> Any:
    # In ignite, the factories and the events are importable from ignite.engine; ported scripts import them from here.
    import glowplug

    if name in glowplug.__all__:
        return getattr(glowplug, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
