"""Values that schedulers recorded in a run, which are saved with the state of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glowplug import StashKey
from glowplug.typing import EngineProtocol


class ParamHistory:
    """Recorded values by name; one list per name, in the order of the events.

    Example:
        >>> history = ParamHistory()
        >>> history.values["lr"] = [[0.1], [0.05]]
        >>> history.state_dict()
        {'lr': [[0.1], [0.05]]}
    """

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}

    def state_dict(self) -> dict[str, list[Any]]:
        """Return a copy of the values."""
        return {name: [_copy(value) for value in values] for name, values in self.values.items()}

    def load_state_dict(self, state_dict: Mapping[str, Sequence[Any]]) -> None:
        """Replace the values by those of another run."""
        self.values.clear()
        self.values.update({name: [_copy(value) for value in values] for name, values in state_dict.items()})


_HISTORY = StashKey[ParamHistory]()


def history_of(engine: EngineProtocol) -> ParamHistory:
    """Return the history of an engine, which ``engine.state.param_history`` shows; create it if necessary."""
    history = engine.stash.get(_HISTORY)
    if history is None:
        history = engine.stash[_HISTORY] = ParamHistory()
        # If the engine has loaded a history, it is restored here.
        engine.register_state("param_history", history)
    engine.state.param_history = history.values
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
