"""The engine and the table of its handlers."""

from __future__ import annotations

from glowplug._lazy import lazy_exports
from glowplug.engine._call import Delegate, describe_handler
from glowplug.engine._deferred import check_function, check_result
from glowplug.engine._engine import Engine
from glowplug.engine._handler_table import HandlerTable
from glowplug.engine._optional import Fault
from glowplug.engine._position import reseeded
from glowplug.engine._reference import EngineReference
from glowplug.engine._rng import keep_random_state

DeterministicEngine = Engine
"""The name in pytorch-ignite of an engine that resumes exactly, as each engine of glowplug does."""

__all__ = [
    "Delegate",
    "DeterministicEngine",
    "Engine",
    "EngineReference",
    "Fault",
    "HandlerTable",
    "check_function",
    "check_result",
    "describe_handler",
    "keep_random_state",
    "reseeded",
]

# Show the public path in tracebacks, pickles and the name of the engine's logger.
for _exported in (Engine, EngineReference, Fault, HandlerTable):
    _exported.__module__ = __name__

# pytorch-ignite exports the following names from ignite.engine as well, so ported scripts import them from glowplug.engine.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug.events": ("CallableEventWithFilter", "EventEnum", "Events", "EventsList"),
        "glowplug.handles": ("RemovableEventHandle",),
        "glowplug.state": ("RunOutcome", "RunStart", "State"),
        "glowplug.supervised": (
            "TbpttEvents",
            "Tbptt_Events",
            "create_supervised_evaluator",
            "create_supervised_tbptt_trainer",
            "create_supervised_trainer",
            "supervised_evaluation_step",
            "supervised_training_step",
        ),
        "glowplug.utils": ("convert_tensor",),
    },
)
