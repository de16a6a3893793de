"""Copies of the states of objects at the best score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glowplug.typing import Stateful


class BestStates:
    """Keeps the states of objects in memory, and restores them.

    A tensor is copied to the device that it is on.

    Args:
        objects: An object with ``state_dict()`` and ``load_state_dict()``, such as a model, or a mapping of names to such objects.

    Attributes:
        states: The kept states by name; ``None`` if there are none.

    Raises:
        TypeError: If an object lacks one of these methods.

    Example:
        >>> from torch import nn
        >>> model = nn.Linear(1, 1)
        >>> best = BestStates(model)
        >>> best.keep()
        >>> _ = nn.init.zeros_(model.weight)
        >>> best.restore()
        >>> bool(model.weight != 0)
        True
    """

    def __init__(self, objects: Stateful | Mapping[str, Stateful]) -> None:
        self._objects = dict(objects) if isinstance(objects, Mapping) else {"model": objects}
        for name, each in self._objects.items():
            if not (hasattr(each, "state_dict") and hasattr(each, "load_state_dict")):
                raise TypeError(
                    f"EarlyStopping: to_restore must be a model or a mapping of names to objects with state_dict() and "
                    f"load_state_dict(), got {each!r} as {name!r}"
                )
        self.states: dict[str, Any] | None = None

    def keep(self) -> None:
        """Copy the current states."""
        self.states = {name: copied(each.state_dict()) for name, each in self._objects.items()}

    def restore(self) -> None:
        """Load the kept states into the objects, if there are any."""
        for name, state in (self.states or {}).items():
            # An optimizer keeps the tensors that it loads.
            self._objects[name].load_state_dict(copied(state))

    def load(self, states: Mapping[str, Any] | None) -> None:
        """Keep states from :attr:`states` of another process.

        Raises:
            ValueError: If the states belong to other objects.
        """
        if states is not None and states.keys() != self._objects.keys():
            raise ValueError(
                f"EarlyStopping: the loaded best states are of {sorted(states)}, but to_restore has {sorted(self._objects)}"
            )
        self.states = None if states is None else dict(states)


def copied(value: Any) -> Any:
    """Return a copy of a nested state, with copies of its tensors.

    Example:
        >>> state = {"lr": [0.1]}
        >>> copied(state) == state, copied(state)["lr"] is state["lr"]
        (True, False)
    """
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    return value.detach().clone() if hasattr(value, "detach") else value
