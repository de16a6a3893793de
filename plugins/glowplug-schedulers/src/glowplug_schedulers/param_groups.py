"""The scheduler that runs several schedulers at once, for example one per parameter group."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from glowplug.typing import EngineProtocol
from glowplug_schedulers.base import simulated
from glowplug_schedulers.composite import CompositeScheduler, preserved
from glowplug_schedulers.param_scheduler import HasParamGroups, ParamScheduler


class ParamGroupScheduler(CompositeScheduler):
    """Run several schedulers at each event, for example one per parameter group or optimizer.

    Args:
        schedulers: List or tuple of schedulers, each a :class:`ParamScheduler`.
        names: Name of each scheduler in ``engine.state.param_history``. Defaults to the names of the parameters.
        save_history: Whether the schedulers append their values to ``engine.state.param_history``. Defaults to ``False``.

    Attributes:
        optimizer: List with the optimizer of each scheduler.

    Raises:
        TypeError: If ``schedulers`` or ``names`` is not a list or tuple.
        ValueError: If one of ``schedulers`` is not a :class:`ParamScheduler`, if a name is not a string, or if the number of names
            differs from the number of schedulers.

    Example:
        >>> import torch
        >>> from glowplug_schedulers import PiecewiseLinear
        >>> body, head = [torch.zeros(1)], [torch.zeros(1)]
        >>> optimizer = torch.optim.SGD([{"params": body}, {"params": head}], lr=1.0)
        >>> slow = PiecewiseLinear(optimizer, "lr", [(0, 0.0), (2, 0.1)], param_group_index=0)
        >>> fast = PiecewiseLinear(optimizer, "lr", [(0, 0.0), (2, 1.0)], param_group_index=1)
        >>> ParamGroupScheduler.simulate_values(3, [slow, fast])
        [[0, 0.0, 0.0], [1, 0.05, 0.5], [2, 0.1, 1.0]]
    """

    schedulers: list[ParamScheduler]

    def __init__(
        self,
        schedulers: Sequence[ParamScheduler],
        names: Sequence[str] | None = None,
        save_history: bool = False,
    ) -> None:
        if not isinstance(schedulers, (list, tuple)):
            raise TypeError(f"ParamGroupScheduler: schedulers must be a list, got {schedulers!r}")
        for each in schedulers:
            if not isinstance(each, ParamScheduler):
                raise ValueError(  # noqa: TRY004 - ignite's error
                    f"ParamGroupScheduler: schedulers must be a list of ParamScheduler objects, but it contains {each!r}"
                )
        self.schedulers = list(schedulers)
        self.names = self._checked_names(names)
        self.optimizer: list[HasParamGroups] = [each.optimizer for each in schedulers]
        super().__init__("/".join(dict.fromkeys(each.param_name for each in schedulers)), save_history)
        self.save_history = save_history

    def _checked_names(self, names: Sequence[str] | None) -> list[str]:
        if names is None:
            return [each.param_name for each in self.schedulers]
        if not isinstance(names, (list, tuple)):
            raise TypeError(f"ParamGroupScheduler: names must be a list of strings, got {names!r}")
        if len(names) != len(self.schedulers) or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"ParamGroupScheduler: names must be a string for each of the {len(self.schedulers)} schedulers, got {names!r}"
            )
        return list(names)

    @property
    def optimizer_param_groups(self) -> Sequence[MutableMapping[str, Any]]:
        """The parameter groups that the schedulers change."""
        return [group for each in self.schedulers for group in each.optimizer_param_groups]

    def get_param(self) -> list[Any]:
        """Return the value of each scheduler."""
        return [each.get_param() for each in self.schedulers]

    def __call__(self, engine: EngineProtocol | None, name: str | None = None) -> None:
        """Call each scheduler.

        Args:
            engine: The engine whose state gets the history; ``None`` if there is none.
            name: Not used; ``names`` are the names in the history.
        """
        if self.is_repeated(engine):
            return
        for each, its_name in zip(self.schedulers, self.names, strict=True):
            each(engine, its_name)
        self.event_index += 1

    def advance(self) -> list[Any]:
        """Count an event in each scheduler, and return their values for this event."""
        self.event_index += 1
        return [each.advance() for each in self.schedulers]

    def _labels(self) -> list[str]:
        return self.names

    @classmethod
    def simulate_values(  # type: ignore[override]  # the schedulers stand for the whole constructor
        cls, num_events: int, schedulers: Sequence[ParamScheduler], **scheduler_kwargs: Any
    ) -> list[list[float]]:
        """Return the values at the first events; the schedulers and their optimizers do not change.

        Args:
            num_events: Number of events.
            schedulers: As in the constructor.
            **scheduler_kwargs: Further arguments of the constructor.

        Returns:
            A list ``[index, value, ...]`` for each event, with one value per scheduler and parameter group.
        """
        scheduler_kwargs.pop("save_history", None)
        with preserved(schedulers):
            return simulated(cls(schedulers, **scheduler_kwargs), num_events)
