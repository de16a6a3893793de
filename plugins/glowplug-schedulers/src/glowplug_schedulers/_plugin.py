"""Plugin hooks of this distribution.

This module imports only the hook specifications, so that plugins load fast.
"""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1

_OFFERS = (
    ("BaseParamScheduler", "base", "Base class of all schedulers."),
    ("BatchSizeScheduler", "batch_size", "Sets the batch size of a DataLoader."),
    ("ConcatScheduler", "concat", "Runs several schedulers one after another."),
    ("CosineAnnealingScheduler", "cyclical", "Anneals a parameter along half a cosine wave."),
    ("CyclicalScheduler", "cyclical", "Base class of schedulers whose values repeat in cycles."),
    ("ExpStateScheduler", "state_params", "Multiplies an attribute of the state by a factor."),
    ("LambdaStateScheduler", "state_params", "Sets an attribute of the state to the value of a function."),
    ("LinearCyclicalScheduler", "cyclical", "Moves a parameter linearly back and forth."),
    ("LRScheduler", "torch_scheduler", "Steps a scheduler of torch."),
    ("MultiStepStateScheduler", "state_params", "Multiplies an attribute of the state at milestones."),
    ("ParamGroupScheduler", "param_groups", "Runs several schedulers at once."),
    ("ParamScheduler", "param_scheduler", "Base class of schedulers of an optimizer's parameter."),
    ("PiecewiseLinear", "piecewise", "Moves a parameter linearly from milestone to milestone."),
    ("PiecewiseLinearStateScheduler", "state_params", "Moves an attribute of the state between milestones."),
    ("ReduceLROnPlateauScheduler", "plateau", "Reduces the learning rate when a metric no longer improves."),
    ("StateParamScheduler", "state_params", "Base class of schedulers of an attribute of the state."),
    ("StepStateScheduler", "state_params", "Multiplies an attribute of the state at every n-th event."),
    (
        "create_lr_scheduler_with_warmup",
        "warmup",
        "Returns a scheduler that begins with a linear warm-up.",
    ),
)


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(name, f"glowplug_schedulers.{module}:{name}", kind="handler", summary=summary)
        for name, module, summary in _OFFERS
    ]
