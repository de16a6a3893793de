"""The scheduler that reduces the learning rate when a metric no longer improves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from glowplug import Events, RemovableEventHandle
from glowplug.engine import EngineReference
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_schedulers.history import history_of, record
from glowplug_schedulers.param_scheduler import ParamScheduler


class ReduceLROnPlateauScheduler(ParamScheduler):
    """Reduce the learning rate when a metric no longer improves, with torch's ``ReduceLROnPlateau``.

    Attach the handler to the engine that computes the metric, usually the evaluator; the default event is ``COMPLETED``. If the
    trainer computes the metric itself, attach the handler to the trainer at ``EPOCH_COMPLETED``.

    The state of torch's scheduler is part of the handler's state. Save the optimizer too, because it contains the learning rate.

    Args:
        optimizer: The optimizer.
        metric_name: Name of the metric in ``engine.state.metrics``.
        trainer: The engine whose state gets the history. The handler holds only a weak reference to it. Defaults to the engine that
            runs the evaluator.
        save_history: Whether to append the learning rates to ``trainer.state.param_history["lr"]``. Defaults to ``False``.
        param_group_index: Index of the only parameter group to change. By default, all groups are changed.
        **scheduler_kwargs: Arguments of ``torch.optim.lr_scheduler.ReduceLROnPlateau``, such as ``mode``, ``factor`` and
            ``patience``.

    Attributes:
        metric_name: Name of the metric.
        scheduler: Torch's scheduler.

    Raises:
        TypeError: If ``optimizer`` is not a torch optimizer, or if ``param_group_index`` is given and ``min_lr`` is not a number.

    Example:
        >>> import torch
        >>> from glowplug import Engine
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> evaluator = Engine(lambda engine, batch: engine.state.metrics.update(loss=1.0))
        >>> scheduler = ReduceLROnPlateauScheduler(optimizer, "loss", patience=1, factor=0.1)
        >>> handle = scheduler.attach(evaluator)
        >>> for _ in range(3):
        ...     _ = evaluator.run([0])
        ...     print(optimizer.param_groups[0]["lr"])
        1.0
        1.0
        0.1
    """

    default_event: AnyEvent = Events.COMPLETED

    def __init__(
        self,
        optimizer: Any,
        metric_name: str,
        trainer: EngineProtocol | None = None,
        save_history: bool = False,
        param_group_index: int | None = None,
        **scheduler_kwargs: Any,
    ) -> None:
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        super().__init__(optimizer, "lr", save_history, param_group_index)
        self.metric_name = metric_name
        self._trainer = EngineReference(trainer)
        if param_group_index is not None:
            scheduler_kwargs["min_lr"] = self._min_lrs(scheduler_kwargs.get("min_lr", 0.0))
        self.scheduler = ReduceLROnPlateau(optimizer, **scheduler_kwargs)
        self._state_attrs += ["metric_name", "scheduler"]

    def _min_lrs(self, lowest: object) -> list[float]:
        """Return the lowest learning rate of each group; the other groups keep theirs."""
        if not isinstance(lowest, Real):
            raise TypeError(
                f"ReduceLROnPlateauScheduler: min_lr must be a number if param_group_index is given, got {lowest!r}"
            )
        ours = self.optimizer_param_groups[0]
        return [float(lowest) if group is ours else math.inf for group in self.optimizer.param_groups]

    @property
    def trainer(self) -> EngineProtocol | None:
        """The engine whose state gets the history; ``None`` if it was not given or no longer exists."""
        return self._trainer()

    def attach(self, engine: EngineProtocol, event_name: AnyEvent | None = None) -> RemovableEventHandle:
        """Read the metric at an event of the engine that computes it.

        Args:
            engine: The engine that computes the metric.
            event_name: The event. Defaults to ``COMPLETED``.

        Returns:
            A handle that detaches the handler.
        """
        trainer = self.trainer
        if self.save_history and trainer is not None:
            history_of(trainer)
        return engine.add_event_handler(self.default_event if event_name is None else event_name, self)

    def get_param(self) -> list[float] | float:
        """Return the current learning rate, or one per parameter group."""
        rates = [float(group["lr"]) for group in self.optimizer_param_groups]
        return rates if len(rates) > 1 else rates[0]

    def __call__(self, engine: EngineProtocol | None, name: str | None = None) -> None:
        """Read the metric, and reduce the learning rate if the metric has not improved for more than ``patience`` events.

        Args:
            engine: The engine that computes the metric.
            name: Name of the learning rate in the history. Defaults to ``"lr"``.

        Raises:
            ValueError: If the engine does not have the metric.
        """
        if self.is_repeated(engine):
            return
        metrics = {} if engine is None else engine.state.metrics
        if engine is None or self.metric_name not in metrics:
            raise ValueError(
                f"ReduceLROnPlateauScheduler: the engine has no metric {self.metric_name!r}; available metrics: {list(metrics)}. "
                "Attach the metric to this engine, or change metric_name"
            )
        self._step(metrics[self.metric_name])
        if self.save_history:
            rates = [float(group["lr"]) for group in self.optimizer_param_groups]
            record(self.trainer or engine.parent or engine, name or self.param_name, rates)

    def _step(self, metric: Any) -> None:
        self.scheduler.step(metric)
        self.event_index += 1

    @classmethod
    def simulate_values(  # type: ignore[override]  # it needs metrics instead of an optimizer
        cls, num_events: int, metric_values: Sequence[float], init_lr: float, **scheduler_kwargs: Any
    ) -> list[list[float]]:
        """Return the learning rates after the first events.

        Args:
            num_events: Number of events.
            metric_values: Value of the metric at each event.
            init_lr: Initial learning rate.
            **scheduler_kwargs: Further arguments of the constructor, such as ``patience``.

        Returns:
            A list ``[index, value]`` for each event.

        Raises:
            ValueError: If the number of metric values is not ``num_events``.

        Example:
            >>> ReduceLROnPlateauScheduler.simulate_values(3, [1.0, 1.0, 1.0], 0.5, patience=1)
            [[0, 0.5], [1, 0.5], [2, 0.05]]
        """
        import torch

        if len(metric_values) != num_events:
            raise ValueError(
                f"ReduceLROnPlateauScheduler: metric_values must have a value for each of the {num_events} events, got "
                f"{len(metric_values)}"
            )
        scheduler_kwargs.pop("save_history", None)
        scheduler = cls(torch.optim.SGD([torch.zeros(1)], lr=init_lr), "metric", **scheduler_kwargs)
        rows: list[list[float]] = []
        for index, metric in enumerate(metric_values):
            scheduler._step(metric)
            rows.append([index, scheduler.optimizer.param_groups[0]["lr"]])
        return rows
