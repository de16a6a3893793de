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
    ("ExpStateScheduler", "state_params", "Decays an attribute of the state by a factor at each event."),
    ("LambdaStateScheduler", "state_params", "Sets an attribute of the state to the value of a function."),
    ("LinearCyclicalScheduler", "cyclical", "Moves a parameter linearly back and forth."),
    ("LRScheduler", "torch_scheduler", "Steps a scheduler from torch.optim.lr_scheduler."),
    (
        "MultiStepStateScheduler",
        "state_params",
        "Decays an attribute of the state by a factor at milestones.",
    ),
    ("ParamGroupScheduler", "param_groups", "Runs several schedulers at once."),
    ("ParamScheduler", "param_scheduler", "Base class of schedulers that set a parameter of an optimizer."),
    ("PiecewiseLinear", "piecewise", "Moves a parameter linearly from milestone to milestone."),
    (
        "PiecewiseLinearStateScheduler",
        "state_params",
        "Moves an attribute of the state linearly between milestones.",
    ),
    ("ReduceLROnPlateauScheduler", "plateau", "Reduces the learning rate when a metric no longer improves."),
    ("StateParamScheduler", "state_params", "Base class of schedulers that set an attribute of the state."),
    ("StepStateScheduler", "state_params", "Decays an attribute of the state by a factor every n events."),
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
