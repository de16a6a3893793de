"""Plan of a run, decided from the arguments of ``run()`` and the engine's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from numbers import Integral
from typing import Any, NamedTuple

from glowplug.engine._data_pass import check_format, length_of
from glowplug.state import State

_NEW_RUN = "set engine.state.max_epochs = None and engine.state.max_iters = None before run()"


class RunKind(Enum):
    """Whether a run is new, continues the last run or a loaded state, or resumes an interrupted run."""

    NEW = "new"
    CONTINUED = "continued"
    SUSPENDED = "suspended"


class RunPlan(NamedTuple):
    """Plan of a run, made before ``run()`` changes the engine."""

    kind: RunKind
    max_epochs: int | None
    max_iters: int | None
    epoch_length: int | None
    forecast: int | None
    """``epoch_length`` if it was derived from the data; ``None`` if ``epoch_length`` was passed to ``run()``."""


def plan_run(
    state: State,
    data: Iterable[Any] | None,
    max_epochs: int | None,
    max_iters: int | None,
    epoch_length: int | None,
    *,
    forecast: int | None,
    is_suspended: bool,
    was_loaded: bool,
    has_open_epoch: bool,
) -> RunPlan:
    """Decide what a call of ``run()`` will do, without changing the engine.

    Args:
        state: The state of the engine.
        data: The data given to ``run()``.
        max_epochs: Number of epochs after which the run ends.
        max_iters: Number of iterations after which the run ends.
        epoch_length: Number of iterations per epoch.
        forecast: The epoch length that the last run expected from its data.
        is_suspended: Whether the last run was interrupted.
        was_loaded: Whether a state was loaded since the last run.
        has_open_epoch: Whether an exception ended the last run within an epoch.

    Raises:
        TypeError: If ``data`` cannot be iterated over.
        ValueError: If an argument is invalid, if the arguments contradict each other or the state, or if an epoch would be
            empty.
    """
    check_data(data)
    limits = limits_of(state, max_epochs, max_iters)
    has_limit = state.max_epochs is not None or state.max_iters is not None
    # A run of one epoch, such as an evaluation, does not continue after an exception.
    epoch = state.epoch - (has_open_epoch and limits != (1, None))
    # Without limits, a new run starts; users set the limits to None to force a new run. A loaded run never restarts, even if it
    # is done.
    if not has_limit or (not (is_suspended or was_loaded) and is_done(state, epoch, *limits)):
        length = epoch_length_of(data, epoch_length)
        if length is None and data is None:
            length = state.epoch_length
        check_length(data, length)
        if max_epochs is None and max_iters is None:
            max_epochs = 1
        return RunPlan(RunKind.NEW, max_epochs, max_iters, length, None if epoch_length else length)
    if epoch_length not in (None, state.epoch_length) and (state.epoch_length or is_suspended):
        raise ValueError(
            f"run() cannot continue with epoch_length={epoch_length!r}: the epoch_length of this run is "
            f"{state.epoch_length or 'not known yet'}. To continue this run, omit epoch_length=; to start a new run, {_NEW_RUN}"
        )
    if is_suspended:
        return RunPlan(RunKind.SUSPENDED, *limits, state.epoch_length, forecast)
    length = state.epoch_length
    if length is None or (epoch_length is None and length == forecast):
        found = epoch_length_of(data, epoch_length)
        check_length(data, length if found is None else found)
        length = found if length is None else length
        forecast = length
    return RunPlan(RunKind.CONTINUED, *limits, length, None if epoch_length else forecast)


def is_done(state: State, epoch: int, max_epochs: int | None, max_iters: int | None) -> bool:
    """Return whether a run has nothing left to do after the given epoch."""
    if state.epoch_length == 0:
        return True
    if max_iters is not None:
        return state.iteration >= max_iters
    return max_epochs is not None and epoch >= max_epochs


def limits_of(state: State, max_epochs: Any, max_iters: Any) -> tuple[int | None, int | None]:
    """Return ``max_epochs`` and ``max_iters``: the given values, or the values in the state if neither is given."""
    if max_epochs is not None and max_iters is not None:
        raise ValueError(
            f"pass max_epochs or max_iters, not both; got max_epochs={max_epochs!r} and max_iters={max_iters!r}"
        )
    for name, limit, reached in (
        ("max_epochs", max_epochs, state.epoch),
        ("max_iters", max_iters, state.iteration),
    ):
        if limit is None:
            continue
        if not isinstance(limit, (int, Integral)) or limit < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {limit!r}")
        mode = next((mode for mode in ("max_iters", "max_epochs") if getattr(state, mode) is not None), None)
        if mode not in (None, name):
            raise ValueError(
                f"this engine's run is limited by {mode}={getattr(state, mode)}; to limit it by {name}, start a new run: {_NEW_RUN}"
            )
        if mode and limit < reached:
            raise ValueError(
                f"{name}={limit} is below {reached}, which the run has already reached. To continue the run, pass a limit above "
                f"{reached}; to start a new run, {_NEW_RUN}"
            )
    if max_epochs is None and max_iters is None:
        return state.max_epochs, state.max_iters
    return max_epochs, max_iters


def check_rank_options(agree_every: Any, uneven: Any) -> None:
    """Check the arguments of ``run()`` that matter with several ranks."""
    is_number = isinstance(agree_every, Integral) and not isinstance(agree_every, bool)
    if agree_every is not None and not (is_number and agree_every >= 0):
        raise ValueError(f"agree_every must be an integer of at least 0, or None; got {agree_every!r}")
    if uneven not in ("shortest", "error"):
        raise ValueError(f"uneven must be 'shortest' or 'error', got {uneven!r}")


def check_state_dict(state_dict: Mapping[str, Any], user_keys: Iterable[str]) -> None:
    """Check that a mapping is the state of an engine.

    Args:
        state_dict: The state to check.
        user_keys: The keys that the user added to the engine's state.

    Raises:
        TypeError: If ``state_dict`` is not a mapping.
        ValueError: If a key is missing, or if an incompatible version of glowplug wrote the state.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"an engine's state must be a mapping, got {type(state_dict).__name__}")
    for group in (("epoch_length",), ("iteration", "epoch"), ("max_epochs", "max_iters")):
        if sum(key in state_dict for key in group) != 1:
            raise ValueError(
                f"an engine's state must contain {' or '.join(map(repr, group))}{', but not both' if len(group) > 1 else ''}; got "
                f"the keys {list(state_dict)}"
            )
    missing = [key for key in user_keys if key not in state_dict]
    if missing:
        raise ValueError(
            f"the loaded state has no value for {', '.join(missing)}, which engine.state_dict_user_keys requires; the state's "
            f"keys are {list(state_dict)}. Add the missing values to the state, or remove their keys from state_dict_user_keys"
        )
    for key in ("handlers", "resume"):
        if not isinstance(state_dict.get(key) or {}, Mapping):
            raise ValueError(f"{key!r} of an engine's state must be a mapping, got {state_dict[key]!r}")  # noqa: TRY004 - one error type for a bad state
    if state_dict.get("resume") is not None:
        check_format(state_dict["resume"])


def position_of(state_dict: Mapping[str, Any]) -> tuple[int, int]:
    """Return the iteration and the epoch of a saved state.

    Raises:
        ValueError: If a number in the state is invalid or contradicts another number.
    """
    least = {"epoch_length": 1, "iteration": 0, "epoch": 0, "max_epochs": 1, "max_iters": 1}
    for name in state_dict.keys() & least.keys():
        value = state_dict[name]
        # Lengths and limits may be None; counters may not.
        if value is None and least[name]:
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
    if "resume" in state_dict:
        # The saved position contains the exact epoch.
        iteration, epoch = value, state_dict["resume"]["epoch"]
    elif length is None:
        if value != 0:
            raise ValueError(
                f"an engine's state with epoch_length=None must have {counter}=0, got {counter}={value!r}; "
                "set epoch_length to the number of iterations per epoch"
            )
        iteration = epoch = 0
    else:
        iteration, epoch = (value, value // length) if counter == "iteration" else (value * length, value)
    for limit, at, reached in (("max_epochs", "epoch", epoch), ("max_iters", "iteration", iteration)):
        maximum = state_dict.get(limit)
        if maximum is not None and maximum < reached:
            raise ValueError(
                f"an engine's state at {at} {reached} must have a {limit} of at least {reached}, got {limit}={maximum}"
            )
    return iteration, epoch


def epoch_length_of(data: Iterable[Any] | None, epoch_length: int | None) -> int | None:
    """Return the given epoch length, or the length of the data if no epoch length is given."""
    return length_of(data) if epoch_length is None else epoch_length


def check_length(data: Iterable[Any] | None, length: object) -> None:
    """Check that an epoch has at least one iteration and a known end."""
    if length is None and data is None:
        raise ValueError("run() without data needs epoch_length=, the number of iterations per epoch")
    if length is not None and (not isinstance(length, (int, Integral)) or length < 1):
        raise ValueError(
            f"an epoch must have at least one iteration, got epoch length {length!r}; pass data with at least one batch, "
            "or an integer epoch_length= of at least 1"
        )


def check_data(data: object) -> None:
    """Check that the data is ``None`` or iterable."""
    if data is not None and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise TypeError(f"data must be an iterable of batches; got {data!r}")
