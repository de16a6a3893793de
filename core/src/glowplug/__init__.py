"""glowplug: a training-loop engine for PyTorch whose handlers are plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug._lazy import lazy_exports
from glowplug._version import __version__ as __version__
from glowplug.engine import Engine, Fault
from glowplug.events import CallableEventWithFilter, EventEnum, Events, EventsList
from glowplug.handles import RemovableEventHandle
from glowplug.phase import Phase
from glowplug.stash import Stash, StashKey
from glowplug.state import RunOutcome, RunStart, State

if TYPE_CHECKING:
    from glowplug import (
        deprecation as deprecation,
        distributed as distributed,
        exceptions as exceptions,
        handlers as handlers,
        hookspecs as hookspecs,
        loggers as loggers,
        metrics as metrics,
        plugins as plugins,
        testing as testing,
        typing as typing,
        utils as utils,
    )
    from glowplug.exceptions import GlowplugWarning, NotComputableError
    from glowplug.metrics import (
        BatchFiltered,
        BatchWise,
        EpochWise,
        Metric,
        MetricsLambda,
        MetricUsage,
        RunningBatchWise,
        RunningEpochWise,
        SingleEpochRunningBatchWise,
        identity,
        reinit__is_reduced,
        sync_all_reduce,
    )
    from glowplug.supervised import (
        OptimizerEvents,
        OptimizerStep,
        Tbptt_Events,
        TbpttEvents,
        TrainingSetup,
        create_supervised_evaluator,
        create_supervised_tbptt_trainer,
        create_supervised_trainer,
        prepare_batch_from_keys,
        setup_training,
        supervised_evaluation_step,
        supervised_training_step,
    )
    from glowplug.utils import convert_tensor

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
    "OptimizerEvents",
    "OptimizerStep",
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
    "TrainingSetup",
    "convert_tensor",
    "create_supervised_evaluator",
    "create_supervised_tbptt_trainer",
    "create_supervised_trainer",
    "identity",
    "prepare_batch_from_keys",
    "reinit__is_reduced",
    "setup_training",
    "supervised_evaluation_step",
    "supervised_training_step",
    "sync_all_reduce",
]

# Most of the names below need torch, which takes seconds to import, so they are imported on first access.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug.exceptions": ("GlowplugWarning", "NotComputableError"),
        "glowplug.metrics": (
            "BatchFiltered",
            "BatchWise",
            "EpochWise",
            "Metric",
            "MetricUsage",
            "MetricsLambda",
            "RunningBatchWise",
            "RunningEpochWise",
            "SingleEpochRunningBatchWise",
            "identity",
            "reinit__is_reduced",
            "sync_all_reduce",
        ),
        "glowplug.supervised": (
            "OptimizerEvents",
            "OptimizerStep",
            "TbpttEvents",
            "Tbptt_Events",
            "TrainingSetup",
            "create_supervised_evaluator",
            "create_supervised_tbptt_trainer",
            "create_supervised_trainer",
            "prepare_batch_from_keys",
            "setup_training",
            "supervised_evaluation_step",
            "supervised_training_step",
        ),
        "glowplug.utils": ("convert_tensor",),
    },
    submodules=(
        "deprecation",
        "distributed",
        "exceptions",
        "handlers",
        "hookspecs",
        "loggers",
        "metrics",
        "plugins",
        "testing",
        "typing",
        "utils",
    ),
)
