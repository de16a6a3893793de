"""The handler that steps a scheduler from ``torch.optim.lr_scheduler``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from glowplug import Events
from glowplug_schedulers.base import simulated
from glowplug_schedulers.composite import preserved
from glowplug_schedulers.param_scheduler import ParamScheduler

if TYPE_CHECKING:
    import torch


class LRScheduler(ParamScheduler):
    """Step a scheduler from ``torch.optim.lr_scheduler``.

    At the first event, the handler sets the initial learning rates of torch's scheduler; at each later event, it calls the
    scheduler's ``step()``. Attach the handler to an event before the training step: ``ITERATION_STARTED`` (default), or
    ``EPOCH_STARTED`` for one value per epoch. The learning rates are then the same as in a loop that calls ``scheduler.step()``
    after each iteration or epoch.

    The state of torch's scheduler is part of the handler's state. Save the optimizer too, because many of torch's schedulers
    compute the next learning rate from the current one.

    Args:
        lr_scheduler: The scheduler from ``torch.optim.lr_scheduler``.
        save_history: Whether to append the learning rates to ``engine.state.param_history["lr"]``. Defaults to ``False``.
        use_legacy: Whether to call ``step()`` at the first event too. The default event is then ``ITERATION_COMPLETED``, so that
            ``step()`` is called after each training step. Defaults to ``False``.

    Raises:
        TypeError: If ``lr_scheduler`` is not such a scheduler, or if it is a ``ReduceLROnPlateau``.

    Example:
        >>> import torch
        >>> from glowplug import Engine
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> trainer = Engine(lambda engine, batch: optimizer.step() or optimizer.param_groups[0]["lr"])
        >>> scheduler = LRScheduler(
        ...     torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5), save_history=True
        ... )
        >>> handle = scheduler.attach(trainer)
        >>> trainer.run([0] * 5).param_history
        {'lr': [[1.0], [1.0], [0.5], [0.5], [0.25]]}
    """

    def __init__(
        self,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        save_history: bool = False,
        use_legacy: bool = False,
    ) -> None:
        from torch.optim import lr_scheduler as of_torch

        if isinstance(lr_scheduler, of_torch.ReduceLROnPlateau):
            raise TypeError(
                "LRScheduler cannot step a ReduceLROnPlateau, which needs a metric; use ReduceLROnPlateauScheduler(optimizer, "
                "metric_name)"
            )
        if not isinstance(lr_scheduler, of_torch.LRScheduler):
            raise TypeError(
                f"LRScheduler: lr_scheduler must be a scheduler from torch.optim.lr_scheduler, got {lr_scheduler!r}"
            )
        super().__init__(lr_scheduler.optimizer, "lr", save_history)
        self.lr_scheduler = lr_scheduler
        self.use_legacy = use_legacy
        if use_legacy:
            self.default_event = Events.ITERATION_COMPLETED
        self._state_attrs += ["lr_scheduler"]

    def get_param(self) -> list[float] | float:
        """Return the learning rate that torch's scheduler last set, or one per parameter group."""
        rates: list[Any] = self.lr_scheduler.get_last_lr()
        return list(rates) if len(rates) > 1 else rates[0]

    def advance(self) -> Any:
        """Step torch's scheduler, except at the first event, and return its learning rate or rates."""
        if self.event_index or self.use_legacy:
            self._step()
        return super().advance()

    def _step(self) -> None:
        # Torch marks an optimizer that has made a step.
        if self.event_index > 1 and getattr(self.optimizer, "_opt_called", False):
            self.lr_scheduler.step()
            return
        with warnings.catch_warnings():
            # The optimizer may not have made a step yet, for example if the run was resumed or accumulates gradients.
            warnings.filterwarnings("ignore", "(Detected call of `lr_scheduler|Seems like `optimizer).step")
            self.lr_scheduler.step()

    @classmethod
    def simulate_values(  # type: ignore[override]  # one argument stands for the whole constructor
        cls, num_events: int, lr_scheduler: torch.optim.lr_scheduler.LRScheduler, **scheduler_kwargs: Any
    ) -> list[list[float]]:
        """Return the learning rates at the first events; the scheduler and its optimizer do not change.

        Args:
            num_events: Number of events.
            lr_scheduler: As in the constructor.
            **scheduler_kwargs: Further arguments of the constructor.

        Returns:
            A list ``[index, value, ...]`` for each event, with one value per parameter group.

        Example:
            >>> import torch
            >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
            >>> LRScheduler.simulate_values(3, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
            [[0, 1.0], [1, 0.5], [2, 0.25]]
        """
        scheduler_kwargs.pop("save_history", None)
        scheduler = cls(lr_scheduler, **scheduler_kwargs)
        with preserved([scheduler]):
            return simulated(scheduler, num_events)
