"""How far a run goes: the limits in its arguments, in its state, and in a state to be loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from glowplug.engine._data_pass import length_of
from glowplug.state import State


def is_done(state: State, max_epochs: int | None, max_iters: int | None) -> bool:
    """Return whether a run with these limits has nothing left to do (E-092)."""
    if state.epoch_length == 0 or (max_iters is not None and state.iteration >= max_iters):
        return True
    if max_epochs is None:
        return False
    if state.epoch_length is not None and state.iteration >= state.epoch_length * max_epochs:
        return True
    return state.epoch >= max_epochs


def limits_of(state: State, max_epochs: Any, max_iters: Any) -> tuple[int | None, int | None]:
    """Return the limits that a run with these arguments has (E-095, E-097)."""
    if max_epochs is not None and max_iters is not None:
        raise ValueError(f"give max_epochs or max_iters, not both; got {max_epochs!r} and {max_iters!r}")
    for name, limit, reached in (
        ("max_epochs", max_epochs, state.epoch),
        ("max_iters", max_iters, state.iteration),
    ):
        if limit is None:
            continue
        if not isinstance(limit, Integral) or limit < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {limit!r}")
        mode = None
        if state.max_iters is not None:
            mode = "max_iters"
        elif state.max_epochs is not None:
            mode = "max_epochs"
        if mode not in (None, name):
            raise ValueError(
                f"this engine's run is limited by {mode}={getattr(state, mode)}; to limit it by {name}, start anew: set "
                f"engine.state.{mode} = None before run()"
            )
        if mode and limit < reached:
            raise ValueError(
                f"{name}={limit} is below what the state has reached already, {reached}; give more, or set "
                f"engine.state.{name} = None before run() to start anew"
            )
    if max_epochs is None and max_iters is None:
        return state.max_epochs, state.max_iters
    return max_epochs, max_iters


def position_of(state_dict: Mapping[str, Any]) -> tuple[int, int]:
    """Return iteration and epoch of a saved state (E-182, E-183)."""
    least = {"epoch_length": 1, "iteration": 0, "epoch": 0, "max_epochs": 1, "max_iters": 1}
    for name in state_dict.keys() & least.keys():
        value = state_dict[name]
        if value is None and least[name]:  # lengths and limits may be unknown, counters not
            continue
        if not isinstance(value, Integral) or value < least[name]:
            raise ValueError(
                f"{name} of an engine's state must be an integer of at least {least[name]}, got {value!r}"
            )
    length = state_dict["epoch_length"]
    counter = "iteration" if "iteration" in state_dict else "epoch"
    value = state_dict[counter]
    iteration: int
    epoch: int
    if "resume" in state_dict:  # it says more than the counter does
        iteration, epoch = value, state_dict["resume"]["epoch"]
    elif length is None:
        if value != 0:
            raise ValueError(
                f"an engine's state with epoch_length=None can only be at {counter} 0, got {counter}={value!r}"
            )
        iteration = epoch = 0
    else:
        iteration, epoch = (value, value // length) if counter == "iteration" else (value * length, value)
    for limit, at, reached in (("max_epochs", "epoch", epoch), ("max_iters", "iteration", iteration)):
        maximum = state_dict.get(limit)
        if maximum is not None and maximum < reached:
            raise ValueError(f"an engine's state at {at} {reached} cannot have {limit}={maximum}")
    return iteration, epoch


def epoch_length_of(data: Iterable[Any] | None, epoch_length: int | None) -> int | None:
    """Return the length that was given, or that of the data where it is known (E-099)."""
    return length_of(data) if epoch_length is None else epoch_length


def check_length(data: Iterable[Any] | None, length: object) -> None:
    """Refuse epochs of no iteration, and of an unknown number where there is no data to end them (E-100)."""
    if length is None and data is None:
        raise ValueError("run() without data needs epoch_length=, the number of iterations of an epoch")
    if length is not None and (not isinstance(length, Integral) or length < 1):
        raise ValueError(
            f"nothing to run over: an epoch has zero size ({length!r} iterations); give data with at least one batch, "
            "or an epoch_length= of at least 1"
        )


def check_data(data: object) -> None:
    """Refuse what cannot be iterated over (E-091)."""
    if data is not None and not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise TypeError(f"data must be something that can be iterated over, batch after batch; got {data!r}")
