"""The scheduler that runs several schedulers one after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import MutableMapping, Sequence
from itertools import accumulate
from numbers import Integral
from typing import Any

from glowplug.typing import EngineProtocol
from glowplug_schedulers.base import simulated
from glowplug_schedulers.composite import CompositeScheduler, optimizers_of, preserved
from glowplug_schedulers.param_groups import ParamGroupScheduler
from glowplug_schedulers.param_scheduler import ParamScheduler


class ConcatScheduler(CompositeScheduler, ParamScheduler):
    """Run several schedulers of one parameter, one after another.

    Args:
        schedulers: At least two schedulers of the same parameter of the same optimizer.
        durations: Number of events of each scheduler except the last one.
        save_history: Whether the schedulers append their values to ``engine.state.param_history``. Defaults to ``False``.

    Raises:
        TypeError: If ``schedulers`` is not a sequence of schedulers, or if ``durations`` is not a list or tuple.
        ValueError: If there are fewer than two schedulers, if the number of durations is not one less than the number of
            schedulers, if a duration is not an integer of at least 0, or if the schedulers have different optimizers or parameters.

    Example:
        >>> import torch
        >>> from glowplug_schedulers import LinearCyclicalScheduler, PiecewiseLinear
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> warmup = PiecewiseLinear(optimizer, "lr", [(0, 0.0), (2, 1.0)])
        >>> decay = LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.5, 4)
        >>> ConcatScheduler.simulate_values(5, [warmup, decay], [2])
        [[0, 0.0], [1, 0.5], [2, 1.0], [3, 0.75], [4, 0.5]]
    """

    schedulers: list[ParamScheduler | ParamGroupScheduler]

    def __init__(
        self,
        schedulers: Sequence[ParamScheduler | ParamGroupScheduler],
        durations: Sequence[int],
        save_history: bool = False,
    ) -> None:
        _check_schedulers(schedulers)
        _check_durations(durations, len(schedulers) - 1)
        self.schedulers = list(schedulers)
        self.durations = list(durations)
        # CompositeScheduler does not define a constructor.
        ParamScheduler.__init__(self, optimizers_of(schedulers[0])[0], schedulers[0].param_name, save_history)
        self.save_history = save_history
        self._state_attrs += ["durations"]

    @property
    def _current(self) -> ParamScheduler | ParamGroupScheduler:
        return self.schedulers[bisect_right(list(accumulate(self.durations)), self.event_index)]

    @property
    def optimizer_param_groups(self) -> Sequence[MutableMapping[str, Any]]:
        """The parameter groups that the current scheduler changes."""
        return self._current.optimizer_param_groups

    def get_param(self) -> Any:
        """Return the value of the current scheduler."""
        return self._current.get_param()

    def __call__(self, engine: EngineProtocol | None, name: str | None = None) -> None:
        """Call the current scheduler.

        Args:
            engine: The engine whose state gets the history; ``None`` if there is none.
            name: Name of the parameter in the history. Defaults to ``param_name``.
        """
        if self.is_repeated(engine):
            return
        self._current(engine, name)
        self.event_index += 1

    def advance(self) -> Any:
        """Count an event in the current scheduler too, and return the value for this event."""
        value = self._current.advance()
        self.event_index += 1
        return value

    @classmethod
    def simulate_values(  # type: ignore[override]  # the schedulers stand for the whole constructor
        cls,
        num_events: int,
        schedulers: Sequence[ParamScheduler | ParamGroupScheduler],
        durations: Sequence[int],
        param_names: Sequence[str] | None = None,
    ) -> list[list[float]]:
        """Return the values at the first events; the schedulers and their optimizer do not change.

        Args:
            num_events: Number of events.
            schedulers: As in the constructor.
            durations: As in the constructor.
            param_names: Names of the parameters to return; their values are read from the first parameter group. By default, the
                values of the scheduled parameter are returned.

        Returns:
            A list ``[index, value, ...]`` for each event.

        Raises:
            TypeError: If ``param_names`` is not a list or tuple.
            ValueError: If one of ``param_names`` is not a parameter of the optimizer.
        """
        if param_names is not None and not isinstance(param_names, (list, tuple)):
            raise TypeError(f"ConcatScheduler: param_names must be a list of names, got {param_names!r}")
        with preserved(schedulers):
            scheduler = cls(schedulers, durations)
            if param_names is None:
                return simulated(scheduler, num_events)
            rows, group = [], scheduler.optimizer.param_groups[0]
            unknown = [name for name in param_names if name not in group]
            if unknown:
                raise ValueError(
                    f"ConcatScheduler: param_names must be names of parameters of the optimizer, but it has no parameter {unknown[0]!r}"
                )
            for index in range(num_events):
                scheduler(None)
                rows.append([index, *(float(group[name]) for name in param_names)])
            return rows


def _check_schedulers(schedulers: Sequence[Any]) -> None:
    if not isinstance(schedulers, Sequence):
        raise TypeError(f"ConcatScheduler: schedulers must be a list of schedulers, got {schedulers!r}")
    for each in schedulers:
        if not isinstance(each, (ParamScheduler, ParamGroupScheduler)):
            raise TypeError(
                f"ConcatScheduler: schedulers must be a list of schedulers, but it contains {each!r}"
            )
    if len(schedulers) < 2:  # noqa: PLR2004 - one scheduler needs no other
        raise ValueError(f"ConcatScheduler: there must be at least two schedulers, got {len(schedulers)}")
    optimizers = [{id(optimizer) for optimizer in optimizers_of(each)} for each in schedulers]
    if any(each != optimizers[0] for each in optimizers):
        raise ValueError("ConcatScheduler: the schedulers must have the same optimizer")
    names = [each.param_name for each in schedulers]
    if any(name != names[0] for name in names):
        raise ValueError(f"ConcatScheduler: the schedulers must have the same param_name, got {names}")


def _check_durations(durations: Any, number: int) -> None:
    if not isinstance(durations, (list, tuple)):
        raise TypeError(f"ConcatScheduler: durations must be a list of integers, got {durations!r}")
    if any(not isinstance(each, Integral) or each < 0 for each in durations):
        raise ValueError(f"ConcatScheduler: durations must be integers of at least 0, got {durations!r}")
    if len(durations) != number:
        raise ValueError(
            "ConcatScheduler: durations must have one item fewer than schedulers, got "
            f"{len(durations)} durations for {number + 1} schedulers"
        )
