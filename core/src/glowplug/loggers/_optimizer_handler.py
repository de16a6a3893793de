"""Log handler for the parameters of an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from glowplug.events import CallableEventWithFilter
from glowplug.loggers._flatten import Flattened
from glowplug.loggers._step import default_step
from glowplug.typing import EngineProtocol


class OptimizerParamsHandler:
    """Log one parameter of an optimizer, such as the learning rate, for each parameter group.

    Names have the form ``tag/lr/group_0``, or ``lr/group_0`` without a tag.

    Args:
        optimizer: Optimizer, or another object with a ``param_groups`` list.
        param_name: Key of the logged parameter in each parameter group. Defaults to ``"lr"``.
        tag: Prefix of the logged names. Defaults to no prefix.

    Raises:
        TypeError: If the optimizer has no ``param_groups``.
        ValueError: If a parameter group does not have the key ``param_name``.

    Example:
        >>> import torch
        >>> from glowplug import Events
        >>> from glowplug.loggers import Logger
        >>> from glowplug.testing import FakeEngine
        >>> class Printer(Logger):
        ...     uses_spool = False
        ...
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> engine, optimizer = FakeEngine(), torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> with Printer() as printer:
        ...     handle = printer.attach(engine, Events.EPOCH_STARTED, OptimizerParamsHandler(optimizer))
        ...     engine = engine.fire(Events.EPOCH_STARTED, epoch=3)
        3 {'lr/group_0': 0.1}
    """

    method = "log_scalars"

    def __init__(self, optimizer: Any, param_name: str = "lr", tag: str | None = None) -> None:
        if not isinstance(getattr(optimizer, "param_groups", None), Sequence):
            raise TypeError(f"OptimizerParamsHandler needs an optimizer with param_groups, got {optimizer!r}")
        for index, group in enumerate(optimizer.param_groups):
            if param_name not in group:
                closest = get_close_matches(str(param_name), group, n=1)
                hint = f"; did you mean {closest[0]!r}?" if closest else f"; choose one of {', '.join(group)}"
                raise ValueError(
                    f"OptimizerParamsHandler: parameter group {index} has no {param_name!r}{hint}"
                )
        self.optimizer = optimizer
        self.param_name = param_name
        self.tag = tag

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Log one record with the values of all parameter groups."""
        flat = Flattened()
        prefix = f"{self.tag}/" if self.tag else ""
        for index, group in enumerate(self.optimizer.param_groups):
            flat.add(f"{prefix}{self.param_name}/group_{index}", group[self.param_name])
        logger.log_scalars(flat.scalars, default_step(engine, event_name))
