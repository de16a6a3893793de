"""Values that schedulers recorded in a run, which are saved with the state of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glowplug import StashKey
from glowplug.typing import EngineProtocol


class ParamHistory:
    """Recorded values in ``state.param_history``: one list per name, in the order of the events.

    Args:
        state: The state of an engine. If its attribute ``param_history`` does not exist or is ``None``, the history is empty.

    Attributes:
        state: The state of the engine.

    Example:
        >>> from glowplug import State
        >>> state = State()
        >>> history = ParamHistory(state)
        >>> history.values["lr"] = [[0.1], [0.05]]
        >>> history.state_dict()
        {'lr': [[0.1], [0.05]]}
        >>> state.param_history = None
        >>> history.state_dict()
        {}
    """

    def __init__(self, state: Any) -> None:
        self.state = state

    @property
    def values(self) -> dict[str, list[Any]]:
        """The recorded values."""
        # A script may have replaced the attribute, or set it to None to begin a new history.
        values: dict[str, list[Any]] | None = getattr(self.state, "param_history", None)
        if values is None:
            values = self.state.param_history = {}
        return values

    def state_dict(self) -> dict[str, list[Any]]:
        """Return a copy of the values."""
        return {name: [_copy(value) for value in values] for name, values in self.values.items()}

    def load_state_dict(self, state_dict: Mapping[str, Sequence[Any]]) -> None:
        """Replace the values with those of another run."""
        self.state.param_history = {
            name: [_copy(value) for value in values] for name, values in state_dict.items()
        }


_HISTORY = StashKey[ParamHistory]()


def history_of(engine: EngineProtocol) -> ParamHistory:
    """Return the history of an engine, which ``engine.state.param_history`` shows; create it if necessary."""
    history = engine.stash.get(_HISTORY)
    if history is None:
        history = engine.stash[_HISTORY] = ParamHistory(engine.state)
        # If the engine has loaded a history, it is restored here.
        engine.register_state("param_history", history)
    history.state = engine.state
    return history


def record(engine: EngineProtocol, name: str, value: Any) -> None:
    """Append a value to ``engine.state.param_history[name]``.

    Args:
        engine: The engine whose state contains the history.
        name: Name of the parameter.
        value: A number, or one number per parameter group.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> fake = FakeEngine()
        >>> record(fake, "lr", [0.1])
        >>> fake.state.param_history
        {'lr': [[0.1]]}
    """
    history_of(engine).values.setdefault(name, []).append(value)


def _copy(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value
