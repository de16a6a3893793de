"""glowplug: a training-loop engine for PyTorch whose handlers are plug-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.engine import Engine
from glowplug.engine._optional import Fault
from glowplug.events import CallableEventWithFilter, EventEnum, Events, EventsList
from glowplug.handles import RemovableEventHandle
from glowplug.phase import Phase
from glowplug.stash import Stash, StashKey
from glowplug.state import RunOutcome, RunStart, State

if TYPE_CHECKING:
    from glowplug.exceptions import GlowplugWarning, NotComputableError
    from glowplug.metrics._metric import Metric, identity
    from glowplug.metrics._metrics_lambda import MetricsLambda
    from glowplug.metrics._reduce import reinit__is_reduced, sync_all_reduce
    from glowplug.metrics._usage import (
        BatchFiltered,
        BatchWise,
        EpochWise,
        MetricUsage,
        RunningBatchWise,
        RunningEpochWise,
        SingleEpochRunningBatchWise,
    )
    from glowplug.supervised import (
        convert_tensor,
        create_supervised_evaluator,
        create_supervised_trainer,
        supervised_evaluation_step,
        supervised_training_step,
    )
    from glowplug.supervised._tbptt import Tbptt_Events, TbpttEvents, create_supervised_tbptt_trainer

__version__ = "0.1.0"

__all__ = [
    "BatchFiltered",
    "BatchWise",
    "CallableEventWithFilter",
    "Engine",
    "EpochWise",
    "EventEnum",
    "Events",
    "EventsList",
    "Fault",
    "GlowplugWarning",
    "Metric",
    "MetricUsage",
    "MetricsLambda",
    "NotComputableError",
    "Phase",
    "RemovableEventHandle",
    "RunOutcome",
    "RunStart",
    "RunningBatchWise",
    "RunningEpochWise",
    "SingleEpochRunningBatchWise",
    "Stash",
    "StashKey",
    "State",
    "TbpttEvents",
    "Tbptt_Events",
    "convert_tensor",
    "create_supervised_evaluator",
    "create_supervised_tbptt_trainer",
    "create_supervised_trainer",
    "identity",
    "reinit__is_reduced",
    "supervised_evaluation_step",
    "supervised_training_step",
    "sync_all_reduce",
]

# Most of these need torch, whose import takes seconds, so they are imported when first asked for (PEP 562).
_LAZY = {
    "BatchFiltered": "glowplug.metrics._usage",
    "BatchWise": "glowplug.metrics._usage",
    "EpochWise": "glowplug.metrics._usage",
    "GlowplugWarning": "glowplug.exceptions",
    "Metric": "glowplug.metrics._metric",
    "MetricUsage": "glowplug.metrics._usage",
    "MetricsLambda": "glowplug.metrics._metrics_lambda",
    "NotComputableError": "glowplug.exceptions",
    "RunningBatchWise": "glowplug.metrics._usage",
    "RunningEpochWise": "glowplug.metrics._usage",
    "SingleEpochRunningBatchWise": "glowplug.metrics._usage",
    "TbpttEvents": "glowplug.supervised._tbptt",
    "Tbptt_Events": "glowplug.supervised._tbptt",
    "convert_tensor": "glowplug.supervised",
    "create_supervised_evaluator": "glowplug.supervised",
    "create_supervised_tbptt_trainer": "glowplug.supervised._tbptt",
    "create_supervised_trainer": "glowplug.supervised",
    "identity": "glowplug.metrics._metric",
    "reinit__is_reduced": "glowplug.metrics._reduce",
    "supervised_evaluation_step": "glowplug.supervised",
    "supervised_training_step": "glowplug.supervised",
    "sync_all_reduce": "glowplug.metrics._reduce",
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
