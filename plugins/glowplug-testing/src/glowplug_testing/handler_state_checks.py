"""Checks of a handler's state and of its effects on the process and on other ranks."""

from __future__ import annotations

import copy
import importlib.util
import io
import pickle
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from glowplug.testing import FakeEngine
from glowplug_testing.cases import HandlerCase
from glowplug_testing.checks import CheckFailed, CheckSkipped, require
from glowplug_testing.engine_play import equal
from glowplug_testing.handler_checks import engine_for, play_case, run
from glowplug_testing.ranks import on_two_ranks
from glowplug_testing.surroundings import unchanged_process


def state_travels_with_the_engine(case: HandlerCase) -> None:
    """engine.state_dict() contains the handler's state, which torch.load(weights_only=True) and a new handler can load."""
    handler, fake = _stateful(case), FakeEngine()
    case.attach(handler, fake)
    play_case(case, fake)
    states = fake.state_dict()["handlers"]
    require(
        states,
        f"{type(handler).__name__}.state_dict() is not part of engine.state_dict(). In attach(), call "
        "engine.register_state(self.state_key, self), join the handle that this call returns with the other handles, and return "
        "the joined handle",
    )
    expected = copy.deepcopy(handler.state_dict())
    stored = through_file(states)
    # In the first pass, attach the new handler and then load the state; in the second pass, load the state first.
    for late in (False, True):
        other, resumed = case.make(), FakeEngine()
        if not late:
            case.attach(other, resumed)
        resumed.load_state_dict({"handlers": copy.deepcopy(stored)})
        if late:
            case.attach(other, resumed)
        require(
            equal(_plain(other.state_dict()), _plain(expected)),
            f"the saved state was {expected!r}, but after a new handler loaded it, the state of the new handler is "
            f"{other.state_dict()!r}; restore the saved state in load_state_dict()",
        )


def state_is_a_copy(case: HandlerCase) -> None:
    """state_dict() returns a copy: changing the copy does not change the handler, and a run does not change the copy."""
    handler, fake = _stateful(case), FakeEngine()
    case.attach(handler, fake)
    play_case(case, fake)
    state = handler.state_dict()
    kept = copy.deepcopy(state)
    require(
        equal(handler.state_dict(), kept),
        "state_dict() returned a different state when called again; it must not change the handler",
    )
    play_case(case, fake)
    require(
        equal(state, kept),
        f"state_dict() returned {kept!r}, which changed to {state!r} during the run; return copies (list(...), tensor.clone())",
    )
    now = copy.deepcopy(handler.state_dict())
    _overwrite(state)
    require(
        equal(handler.state_dict(), now),
        "changing the result of state_dict() changed the handler; return copies (list(...), tensor.clone())",
    )


def _stateful(case: HandlerCase) -> Any:
    handler = case.make()
    has = [name for name in ("state_dict", "load_state_dict") if callable(getattr(handler, name, None))]
    if not has:
        raise CheckSkipped("the handler has no state_dict")
    require(
        len(has) == len(("save", "load")),
        f"the handler has {has[0]}() only; define both state_dict() and load_state_dict()",
    )
    return handler


def _overwrite(state: Any) -> None:
    for key, value in list(state.items()) if isinstance(state, dict) else ():
        if isinstance(value, list):
            value.append("overwritten")
        elif isinstance(value, dict):
            value["overwritten"] = True
        elif hasattr(value, "fill_"):
            value.fill_(77)
        state[key] = "overwritten"


def through_file(state: Any) -> Any:
    """Save a state and load it with ``torch.load(weights_only=True)``, or with pickle if torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        _require_plain(state)
        return pickle.loads(pickle.dumps(state))  # noqa: S301 - pickled here
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckFailed(
            f"torch.load(weights_only=True) cannot load the state {state!r}. state_dict() must return only numbers, strings, "
            "tensors, None, and lists and dicts of these; convert a NumPy scalar with value.item()"
        ) from error


def _require_plain(value: Any) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _require_plain(key)
            _require_plain(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _require_plain(item)
    else:
        require(
            type(value) in {int, float, bool, str, bytes, type(None), complex},
            f"the state contains {value!r}, which torch.load(weights_only=True) cannot load; state_dict() must return only "
            "numbers, strings, tensors, None, and lists and dicts of these",
        )


def _plain(value: Any) -> Any:
    """Return a value with all tuples converted to lists, because some file formats load a tuple as a list."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def can_be_pickled_or_explains(case: HandlerCase) -> None:
    """Either the handler can be pickled and its copy works, or pickling raises an error that names the handler."""
    handler = case.make()
    name = type(handler).__name__
    if "<locals>" in type(handler).__qualname__:
        raise CheckSkipped(
            f"{name} is defined inside a function, so it cannot be pickled; to run this check, define {name} in a module"
        )
    try:
        made = pickle.loads(pickle.dumps(handler))  # noqa: S301 - pickled here
    except Exception as error:  # noqa: BLE001 - the error itself is checked
        message = str(error)
        if _is_of_the_case(message, case, handler):
            raise CheckSkipped(
                f"the case passes a function that cannot be pickled, such as a lambda, to the handler: {message}"
            ) from None
        require(
            name in message,
            f"pickling failed with {error!r}, which does not name the handler; in __getstate__(), omit the attribute that cannot "
            f"be pickled, or raise TypeError('{name} cannot be pickled because ...')",
        )
        return
    fake = FakeEngine()
    case.attach(made, fake)
    play_case(case, fake)


def _is_of_the_case(message: str, case: HandlerCase, handler: Any) -> bool:
    """Return whether the object that cannot be pickled is a function from the module that defines the case."""
    where = getattr(case.make, "__module__", "")
    local = re.search(r"local object '?(?:<function )?(\w+)\.", message)
    if local is None:
        return "<lambda>" in message and where in message
    owners = {kind.__name__ for kind in type(handler).__mro__}
    return local[1] in vars(sys.modules.get(where, object)) and local[1] not in owners


def constructor_waits_for_no_rank(case: HandlerCase) -> None:
    """The constructor calls no collective, so a single rank can create the handler."""

    def make_on(rank: int) -> None:
        if rank == 0:
            case.make()
        else:
            time.sleep(0.3)

    try:
        on_two_ranks(make_on, 10.0)
    except CheckFailed as error:
        raise CheckFailed(
            "the constructor failed when only one of two ranks called it; call collectives in a handler of Events.STARTED "
            f"instead, because all ranks reach that event. {error}"
        ) from None


def two_ranks_end_together(case: HandlerCase) -> None:
    """If the handler is attached on two ranks, a run ends at the same iteration on both ranks."""

    def run_on(_: int) -> tuple[int, int, str]:
        engine = engine_for(case)
        case.attach(case.make(), engine)
        state = run(engine).state
        return state.iteration, state.epoch, str(state.outcome)

    first, second = on_two_ranks(run_on)
    require(
        first == second,
        f"the run ended at (iteration, epoch, outcome) {first} on rank 0 and {second} on rank 1; to stop all ranks together, call "
        "engine.terminate() on at least one of them",
    )


def process_is_unchanged(case: HandlerCase) -> None:
    """The handler does not print, leave threads running, or change global state such as signal handlers or random generators."""
    with unchanged_process():
        engine = engine_for(case)
        handle = case.attach(case.make(), engine)
        run(engine)
        handle.remove()


STATE_CHECKS = (
    state_travels_with_the_engine,
    state_is_a_copy,
    can_be_pickled_or_explains,
    constructor_waits_for_no_rank,
    two_ranks_end_together,
    process_is_unchanged,
)
