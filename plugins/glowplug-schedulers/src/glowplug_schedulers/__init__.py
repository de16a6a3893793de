"""Schedulers for the learning rate and other parameters of glowplug runs."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_schedulers._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_schedulers.base import BaseParamScheduler
    from glowplug_schedulers.batch_size import BatchSizeScheduler
    from glowplug_schedulers.concat import ConcatScheduler
    from glowplug_schedulers.cyclical import (
        CosineAnnealingScheduler,
        CyclicalScheduler,
        LinearCyclicalScheduler,
    )
    from glowplug_schedulers.param_groups import ParamGroupScheduler
    from glowplug_schedulers.param_scheduler import ParamScheduler
    from glowplug_schedulers.piecewise import PiecewiseLinear
    from glowplug_schedulers.plateau import ReduceLROnPlateauScheduler
    from glowplug_schedulers.state_params import (
        ExpStateScheduler,
        LambdaStateScheduler,
        MultiStepStateScheduler,
        PiecewiseLinearStateScheduler,
        StateParamScheduler,
        StepStateScheduler,
    )
    from glowplug_schedulers.torch_scheduler import LRScheduler
    from glowplug_schedulers.warmup import create_lr_scheduler_with_warmup

__all__ = [
    "BaseParamScheduler",
    "BatchSizeScheduler",
    "ConcatScheduler",
    "CosineAnnealingScheduler",
    "CyclicalScheduler",
    "ExpStateScheduler",
    "LRScheduler",
    "LambdaStateScheduler",
    "LinearCyclicalScheduler",
    "MultiStepStateScheduler",
    "ParamGroupScheduler",
    "ParamScheduler",
    "PiecewiseLinear",
    "PiecewiseLinearStateScheduler",
    "ReduceLROnPlateauScheduler",
    "StateParamScheduler",
    "StepStateScheduler",
    "create_lr_scheduler_with_warmup",
]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_schedulers.base": ("BaseParamScheduler",),
        "glowplug_schedulers.batch_size": ("BatchSizeScheduler",),
        "glowplug_schedulers.concat": ("ConcatScheduler",),
        "glowplug_schedulers.cyclical": (
            "CosineAnnealingScheduler",
            "CyclicalScheduler",
            "LinearCyclicalScheduler",
        ),
        "glowplug_schedulers.param_groups": ("ParamGroupScheduler",),
        "glowplug_schedulers.param_scheduler": ("ParamScheduler",),
        "glowplug_schedulers.piecewise": ("PiecewiseLinear",),
        "glowplug_schedulers.plateau": ("ReduceLROnPlateauScheduler",),
        "glowplug_schedulers.state_params": (
            "ExpStateScheduler",
            "LambdaStateScheduler",
            "MultiStepStateScheduler",
            "PiecewiseLinearStateScheduler",
            "StateParamScheduler",
            "StepStateScheduler",
        ),
        "glowplug_schedulers.torch_scheduler": ("LRScheduler",),
        "glowplug_schedulers.warmup": ("create_lr_scheduler_with_warmup",),
    },
)
