"""glowplug: a training-loop engine for PyTorch whose handlers are plug-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowplug.dispatch import Phase
from glowplug.engine import Engine
from glowplug.events import CallableEventWithFilter, EventEnum, Events, EventsList
from glowplug.faults import Fault
from glowplug.handles import RemovableEventHandle
from glowplug.state import RunOutcome, State

if TYPE_CHECKING:
    from glowplug.exceptions import GlowplugWarning, NotComputableError
    from glowplug.metric import Metric, identity
    from glowplug.metric_sync import reinit__is_reduced, sync_all_reduce
    from glowplug.metrics_lambda import MetricsLambda
    from glowplug.supervised import (
        convert_tensor,
        create_supervised_evaluator,
        create_supervised_trainer,
        supervised_evaluation_step,
        supervised_training_step,
    )
    from glowplug.tbptt import Tbptt_Events, TbpttEvents, create_supervised_tbptt_trainer
    from glowplug.usages import (
        BatchFiltered,
        BatchWise,
        EpochWise,
        MetricUsage,
        RunningBatchWise,
        RunningEpochWise,
        SingleEpochRunningBatchWise,
    )

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
    "RunningBatchWise",
    "RunningEpochWise",
    "SingleEpochRunningBatchWise",
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
    "BatchFiltered": "glowplug.usages",
    "BatchWise": "glowplug.usages",
    "EpochWise": "glowplug.usages",
    "GlowplugWarning": "glowplug.exceptions",
    "Metric": "glowplug.metric",
    "MetricUsage": "glowplug.usages",
    "MetricsLambda": "glowplug.metrics_lambda",
    "NotComputableError": "glowplug.exceptions",
    "RunningBatchWise": "glowplug.usages",
    "RunningEpochWise": "glowplug.usages",
    "SingleEpochRunningBatchWise": "glowplug.usages",
    "TbpttEvents": "glowplug.tbptt",
    "Tbptt_Events": "glowplug.tbptt",
    "convert_tensor": "glowplug.supervised",
    "create_supervised_evaluator": "glowplug.supervised",
    "create_supervised_tbptt_trainer": "glowplug.tbptt",
    "create_supervised_trainer": "glowplug.supervised",
    "identity": "glowplug.metric",
    "reinit__is_reduced": "glowplug.metric_sync",
    "supervised_evaluation_step": "glowplug.supervised",
    "supervised_training_step": "glowplug.supervised",
    "sync_all_reduce": "glowplug.metric_sync",
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
