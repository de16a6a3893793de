"""Base class of schedulers that set a parameter of an optimizer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import MutableMapping, Sequence
from typing import Any, Protocol

from glowplug.typing import EngineProtocol
from glowplug_schedulers.base import BaseParamScheduler
from glowplug_schedulers.history import record


class HasParamGroups(Protocol):
    """An optimizer, or an object with the parameter groups of an optimizer."""

    @property
    def param_groups(self) -> Sequence[MutableMapping[str, Any]]:
        """The parameter groups, each with its parameters such as ``"lr"``."""


class ParamScheduler(BaseParamScheduler):
    """Set a parameter of an optimizer, such as the learning rate, at each event.

    At the first event, the parameter gets the first value, so attach the scheduler to an event before the step. A subclass
    defines :meth:`get_param`, which computes the value from ``event_index``.

    Args:
        optimizer: The optimizer, or any object with ``param_groups``.
        param_name: Name of the parameter in the parameter groups, such as ``"lr"``.
        save_history: Whether to append the values of the parameter groups to ``engine.state.param_history[param_name]``.
            Defaults to ``False``.
        param_group_index: Index of the only parameter group to change. By default, all groups are changed.

    Raises:
        TypeError: If ``optimizer.param_groups`` is not a list or tuple.

    Example:
        >>> class Harmonic(ParamScheduler):
        ...     def get_param(self):
        ...         return 1 / (1 + self.event_index)
        >>> Harmonic.simulate_values(3, param_name="lr")
        [[0, 1.0], [1, 0.5], [2, 0.3333333333333333]]
    """

    def __init__(
        self,
        optimizer: HasParamGroups,
        param_name: str,
        save_history: bool = False,
        param_group_index: int | None = None,
    ) -> None:
        super().__init__(param_name, save_history)
        if not isinstance(getattr(optimizer, "param_groups", None), (list, tuple)):
            raise TypeError(
                f"{type(self).__name__}: optimizer must be a torch optimizer, or an object whose param_groups are a list, got "
                f"{optimizer!r}"
            )
        self.optimizer: HasParamGroups = optimizer
        self.param_group_index = param_group_index
        self._state_attrs += ["param_group_index"]

    @property
    def optimizer_param_groups(self) -> Sequence[MutableMapping[str, Any]]:
        """The parameter groups that the scheduler changes."""
        groups = self.optimizer.param_groups
        if self.param_group_index is None:
            return groups
        try:
            return [groups[self.param_group_index]]
        except IndexError:
            raise IndexError(
                f"{type(self).__name__}: param_group_index is {self.param_group_index}, but the optimizer has "
                f"{len(groups)} parameter groups"
            ) from None

    def __call__(self, engine: EngineProtocol | None, name: str | None = None) -> None:
        """Set the parameter to its next value.

        Args:
            engine: The engine whose state gets the history; ``None`` if there is none.
            name: Name of the parameter in the history. Defaults to ``param_name``.

        Raises:
            ValueError: If the parameter groups do not have the parameter, or if the number of values differs from the number of
                groups.
            IndexError: If the optimizer has no parameter group with the index ``param_group_index``.
        """
        if self.is_repeated(engine):
            return
        self._set(self.advance())
        if self.save_history and engine is not None:
            values = [_number(group[self.param_name]) for group in self.optimizer_param_groups]
            record(engine, name or self.param_name, values)

    @abstractmethod
    def get_param(self) -> Sequence[float] | float:
        """Return the value for the current ``event_index``, or a list with one value per parameter group."""

    def _set(self, value: Any) -> None:
        groups = self.optimizer_param_groups
        values = value if isinstance(value, list) else [value] * len(groups)
        if len(values) != len(groups):
            raise ValueError(
                f"{type(self).__name__}: get_param() returned {len(values)} values for {len(groups)} parameter groups"
            )
        for group, each in zip(groups, values, strict=True):
            if self.param_name not in group:
                known = ", ".join(repr(key) for key in group if key != "params")
                raise ValueError(
                    f"{type(self).__name__}: the optimizer has no parameter {self.param_name!r}; it has {known}"
                )
            current = group[self.param_name]
            if hasattr(current, "fill_"):
                # A compiled or captured step reads this tensor; a new one would have no effect.
                current.fill_(each)
            else:
                group[self.param_name] = each

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[float]]:
        """Return the values at the first events, without an optimizer or an engine.

        Args:
            num_events: Number of events.
            **scheduler_kwargs: Arguments of the constructor; ``optimizer``, ``save_history`` and ``param_group_index`` have no
                effect and can be omitted.

        Returns:
            A list ``[index, value]`` for each event.

        Example:
            >>> from glowplug_schedulers import PiecewiseLinear
            >>> milestones = [(0, 1.0), (2, 0.0)]
            >>> PiecewiseLinear.simulate_values(4, param_name="lr", milestones_values=milestones)
            [[0, 1.0], [1, 0.5], [2, 0.0], [3, 0.0]]
        """
        options = {**scheduler_kwargs, "optimizer": _NoOptimizer(), "param_group_index": None}
        return super().simulate_values(num_events, **options)


class _NoOptimizer:
    """The optimizer of a simulation."""

    def __init__(self) -> None:
        self.param_groups: list[MutableMapping[str, Any]] = []


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
