"""Norm of all gradients together."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from glowplug import Events, OptimizerEvents, Phase, RemovableEventHandle
from glowplug.typing import AnyEvent, EngineProtocol

__all__ = ["GradientNorm"]


class GradientNorm:
    """Publish the norm of all gradients together as a metric.

    With a supervised trainer, the norm is computed before each optimizer step: the gradients of the accumulation window are complete,
    not scaled, and not yet clipped. The value stays a tensor on its device, so that no step waits for an accelerator.

    Args:
        parameters: A model or parameters; parameters without a gradient do not count.
        norm_type: The p of the p-norm; may be ``float("inf")``.

    Raises:
        TypeError: If ``parameters`` contains anything other than tensors.
        ValueError: If ``norm_type`` is not positive.

    Example:
        >>> from glowplug import create_supervised_trainer
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
        >>> handle = GradientNorm(model).attach(trainer)
        >>> state = trainer.run([(torch.zeros(4, 2), torch.zeros(4, 1) + model.bias.detach() + 1)])
        >>> round(state.metrics["gradient_norm"].item(), 4)
        2.0
    """

    phase = Phase.METRICS

    def __init__(self, parameters: torch.nn.Module | Iterable[torch.Tensor], norm_type: float = 2.0) -> None:
        if not norm_type > 0:
            raise ValueError(f"GradientNorm: norm_type must be positive, got {norm_type!r}")
        given = parameters.parameters() if isinstance(parameters, torch.nn.Module) else parameters
        self._parameters = list(given)
        for each in self._parameters:
            if not isinstance(each, torch.Tensor):
                raise TypeError(
                    f"GradientNorm needs a model or its parameters, got an object of type {type(each).__name__} among them"
                )
        self._norm_type = norm_type

    def attach(
        self, engine: EngineProtocol, name: str = "gradient_norm", event_name: AnyEvent | None = None
    ) -> RemovableEventHandle:
        """Publish the value in ``engine.state.metrics``.

        Args:
            engine: The engine.
            name: Name of the metric.
            event_name: Event at which the norm is computed. ``None`` means ``OptimizerEvents.OPTIMIZER_STEP_STARTED`` or, if the
                engine does not have this event, ``Events.ITERATION_COMPLETED``.
        """
        if event_name is None:
            started = OptimizerEvents.OPTIMIZER_STEP_STARTED
            event_name = (
                started if engine.has_registered_events(started) is True else Events.ITERATION_COMPLETED
            )
        return engine.add_event_handler(event_name, self._publish, name)

    def _publish(self, engine: EngineProtocol, name: str) -> None:
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        engine.state.metrics[name] = torch.nn.utils.get_total_norm(gradients, self._norm_type)
