"""Base class of schedulers that run other schedulers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from glowplug_schedulers.base import BaseParamScheduler, check_state
from glowplug_schedulers.param_scheduler import HasParamGroups


class CompositeScheduler(BaseParamScheduler):
    """Base class of schedulers that run other schedulers; its state contains their states.

    A subclass sets ``schedulers`` before it calls the constructor.

    Attributes:
        schedulers: The other schedulers.
    """

    schedulers: Sequence[BaseParamScheduler]

    @property
    def save_history(self) -> bool:
        """Whether the schedulers append their values to ``engine.state.param_history``."""
        return self._save_history

    @save_history.setter
    def save_history(self, value: bool) -> None:
        self._save_history = value
        for each in self.schedulers:
            each.save_history = value

    def _labels(self) -> list[str]:
        """Return a label for each scheduler; a state is loaded only if the labels are the same."""
        return [type(each).__name__ for each in self.schedulers]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state, with the states of the schedulers."""
        states = [[label, each.state_dict()] for label, each in self._labelled()]
        return {**super().state_dict(), "schedulers": states}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state into this scheduler and into the schedulers that it runs.

        Args:
            state_dict: Result of :meth:`state_dict`.

        Raises:
            TypeError: If the state is not a mapping.
            ValueError: If a part of the state is missing, or if the state was saved with other schedulers.
        """
        check_state(self, state_dict, [*self._state_attrs, "schedulers"])
        labels = [label for label, _ in state_dict["schedulers"]]
        if labels != self._labels():
            raise ValueError(
                f"{type(self).__name__}: the state was saved with the schedulers {labels}, but this one has {self._labels()}; create "
                "it with the same schedulers and names"
            )
        for each, (_, state) in zip(self.schedulers, state_dict["schedulers"], strict=True):
            each.load_state_dict(state)
        super().load_state_dict(state_dict)

    def _labelled(self) -> Iterator[tuple[str, BaseParamScheduler]]:
        return zip(self._labels(), self.schedulers, strict=True)


def optimizers_of(scheduler: Any) -> list[HasParamGroups]:
    """Return the optimizers of a scheduler and of the schedulers that it runs, each once."""
    inner = getattr(scheduler, "schedulers", None)
    found = [scheduler.optimizer] if inner is None else [each for one in inner for each in optimizers_of(one)]
    return list({id(each): each for each in found}.values())


@contextmanager
def preserved(schedulers: Iterable[object]) -> Iterator[None]:
    """Undo what happens to schedulers and to the parameter groups of their optimizers; ignore other objects."""
    kept = [(each, each.state_dict()) for each in schedulers if isinstance(each, BaseParamScheduler)]
    groups = [
        (group, copy.deepcopy({name: group[name] for name in group if name != "params"}))
        for each, _ in kept
        for optimizer in optimizers_of(each)
        for group in optimizer.param_groups
    ]
    try:
        yield
    finally:
        for each, state in kept:
            each.load_state_dict(state)
        for group, values in groups:
            for name, value in values.items():
                if hasattr(group[name], "copy_"):
                    group[name].copy_(value)
                else:
                    group[name] = value
