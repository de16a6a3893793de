"""Checks of the options of EarlyStopping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from glowplug import CallableEventWithFilter, Events, EventsList
from glowplug.typing import AnyEvent, Stateful
from glowplug_early_stopping.best_states import BestStates


def checked_patience(value: object) -> int:
    """Return the patience as an int, or raise an error."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"EarlyStopping: patience must be an integer of at least 1, got {value!r}")
    return int(value)


def check_engine(name: str, value: object) -> None:
    """Raise an error if a value is neither an engine nor ``None``."""
    if value is not None and not (hasattr(value, "terminate") and hasattr(value, "register_state")):
        raise TypeError(f"EarlyStopping: {name} must be a glowplug engine, got {value!r}")


def renamed(old: str, given: Any, new: str, value: Any, default: Any) -> Any:
    """Return the value of an option that may be given under its former name."""
    if given is None:
        return value
    if value != default:
        raise ValueError(
            f"EarlyStopping: {old} and {new} were both given, but {old} is the former name of {new}; pass only {new}"
        )
    return given


def events_of(event_name: AnyEvent) -> Iterable[CallableEventWithFilter | str]:
    """Return the events that an ``event_name`` consists of."""
    return event_name if isinstance(event_name, EventsList) else (event_name,)


def includes(event_name: AnyEvent, event: Events) -> bool:
    """Return whether ``event_name`` contains an event, with or without a filter."""
    return any(each in (event, event.name) for each in events_of(event_name))


def best_states(
    restore_best: bool, to_restore: Stateful | Mapping[str, Stateful] | None
) -> BestStates | None:
    """Return the copies that ``restore_best`` needs, or ``None`` without it."""
    if restore_best and to_restore is None:
        raise ValueError("EarlyStopping: restore_best=True needs the model; pass to_restore=model as well")
    if to_restore is not None and not restore_best:
        raise ValueError("EarlyStopping: to_restore has no effect without restore_best=True; pass both")
    return None if to_restore is None else BestStates(to_restore)
