"""Validation of options for ``torch.save``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch

__all__ = ["check_options"]

# Remedies for arguments that checkpoint classes of other libraries accept.
_REMEDIES = {
    "mode": 'for a metric such as "loss" that should decrease, use score_function=Checkpoint.get_default_score_fn("loss", -1.0)',
    "monitor": "use score_name to choose the metric that ranks checkpoints",
    "metric_name": "use score_name to choose the metric that ranks checkpoints",
    "save_interval": "to save every n iterations, use attach(engine, Events.ITERATION_COMPLETED(every=n))",
    "every": "to save every n iterations, use attach(engine, Events.ITERATION_COMPLETED(every=n))",
    "event_name": "pass the event to attach(engine, event_name)",
    "save_as_state_dict": "objects are always saved as their state_dict()",
    "save_handler": "for another save handler, use Checkpoint",
}


def check_options(owner: type, options: Mapping[str, Any]) -> None:
    """Refuse options that ``torch.save`` does not accept.

    Args:
        owner: Class whose constructor accepts the options.
        options: Extra keyword arguments of the constructor.

    Raises:
        TypeError: If an option is unknown. The message suggests the closest option or a remedy.

    Example:
        >>> class Saver:
        ...     def __init__(self, dirname, **options): ...
        >>> check_options(Saver, {"pickle_protocol": 4})
        >>> check_options(Saver, {"dir_name": "runs"})
        Traceback (most recent call last):
        ...
        TypeError: Saver has no option 'dir_name'; did you mean 'dirname'?
    """
    accepted = set(inspect.signature(torch.save).parameters) - {"obj", "f"}
    own = set(inspect.signature(owner).parameters) - {"kwargs"}
    for name in options:
        if name not in accepted:
            raise TypeError(f"{owner.__name__} has no option {name!r}; {_advice(name, own | accepted)}")


def _advice(name: str, known: set[str]) -> str:
    if name in _REMEDIES:
        return _REMEDIES[name]
    if close := get_close_matches(name, sorted(known), n=1):
        return f"did you mean {close[0]!r}?"
    public = sorted(option for option in known if not option.startswith("_"))
    return f"its options are {', '.join(public)}"
