"""The log handler of an optimizer's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glowplug.events import CallableEventWithFilter
from glowplug.loggers._flatten import Flattened
from glowplug.loggers._step import default_step
from glowplug.typing import EngineProtocol


class OptimizerParamsHandler:
    """Logs a parameter of an optimizer, one number per parameter group, as ``[tag/]lr/group_0`` (L-030).

    Args:
        optimizer: anything with a list ``param_groups``.
        param_name: the key in the groups.
        tag: what the names begin with.

    Raises:
        TypeError: no ``param_groups``.

    Example:
        >>> import torch
        >>> OptimizerParamsHandler(torch.optim.SGD([torch.zeros(1)], lr=0.1)).param_name
        'lr'
    """

    method = "log_scalars"

    def __init__(self, optimizer: Any, param_name: str = "lr", tag: str | None = None) -> None:
        if not isinstance(getattr(optimizer, "param_groups", None), Sequence):
            raise TypeError(f"OptimizerParamsHandler needs an optimizer with param_groups, got {optimizer!r}")
        self.optimizer = optimizer
        self.param_name = param_name
        self.tag = tag

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Make one record of all groups."""
        flat = Flattened()
        prefix = f"{self.tag}/" if self.tag else ""
        for index, group in enumerate(self.optimizer.param_groups):
            if self.param_name not in group:
                raise KeyError(
                    f"OptimizerParamsHandler: group {index} of {type(self.optimizer).__name__} has no "
                    f"{self.param_name!r}; it has {', '.join(group)}"
                )
            flat.add(f"{prefix}{self.param_name}/group_{index}", group[self.param_name])
        logger.log_scalars(flat.scalars, default_step(engine, event_name))
