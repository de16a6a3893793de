"""Learning rate of each parameter group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.typing import AnyEvent, EngineProtocol

if TYPE_CHECKING:
    import torch

__all__ = ["LearningRate"]


class LearningRate:
    """Publish the learning rates of an optimizer, or another option of its parameter groups, as metrics.

    Args:
        optimizer: The optimizer.
        option: Name of the option in each parameter group, such as ``"lr"`` or ``"weight_decay"``.

    Raises:
        TypeError: If ``optimizer`` has no parameter groups.
        ValueError: If a parameter group does not have the option.

    Example:
        >>> import torch
        >>> from glowplug import Engine
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> engine = Engine(lambda engine, batch: None)
        >>> handle = LearningRate(optimizer).attach(engine)
        >>> engine.run([1]).metrics
        {'lr': 0.1}
    """

    phase = Phase.METRICS

    def __init__(self, optimizer: torch.optim.Optimizer, option: str = "lr") -> None:
        groups = getattr(optimizer, "param_groups", None)
        if not isinstance(groups, (list, tuple)):
            raise TypeError(f"LearningRate needs an optimizer with param_groups, got {optimizer!r}")
        for group in groups:
            if option not in group:
                known = ", ".join(sorted(str(key) for key in group if key != "params"))
                raise ValueError(
                    f"LearningRate: the optimizer's parameter groups have no option {option!r}; they have {known}"
                )
        self._optimizer = optimizer
        self._option = option

    def attach(
        self, engine: EngineProtocol, name: str | None = None, event_name: AnyEvent = Events.ITERATION_STARTED
    ) -> RemovableEventHandle:
        """Publish the values in ``engine.state.metrics``.

        Args:
            engine: The engine.
            name: Name of the metric; ``None`` means the name of the option. If there are several parameter groups, their numbers are
                appended, as in ``"lr/0"``.
            event_name: Event at which the values are read. By default, they are those of the step that follows.
        """
        return engine.add_event_handler(event_name, self._publish, name or self._option)

    def _publish(self, engine: EngineProtocol, name: str) -> None:
        groups = self._optimizer.param_groups
        for number, group in enumerate(groups):
            value = group[self._option]
            engine.state.metrics[name if len(groups) == 1 else f"{name}/{number}"] = value
