"""Checks of a handler's state, and of what it does to the process and to other ranks."""

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
from glowplug_testing.surroundings import left_as_it_was


def state_travels_with_the_engine(case: HandlerCase) -> None:
    """The state of a handler is part of engine.state_dict(), can be stored safely, and comes back to a new handler."""
    handler, fake = _stateful(case), FakeEngine()
    case.attach(handler, fake)
    play_case(case, fake)
    states = fake.state_dict()["handlers"]
    require(
        states,
        f"{type(handler).__name__} has a state_dict(), and it is not part of engine.state_dict(); let attach register it: "
        "engine.register_state(self.state_key, self), joined to the handle that it returns",
    )
    expected = copy.deepcopy(handler.state_dict())
    stored = through_file(states)
    for late in (False, True):  # the state is loaded before the handler is attached, or after
        other, resumed = case.make(), FakeEngine()
        if not late:
            case.attach(other, resumed)
        resumed.load_state_dict({"handlers": copy.deepcopy(stored)})
        if late:
            case.attach(other, resumed)
        require(
            equal(_plain(other.state_dict()), _plain(expected)),
            f"a handler with the state {expected!r} was saved, and a new one that it was loaded into has {other.state_dict()!r}",
        )


def state_is_a_copy(case: HandlerCase) -> None:
    """What state_dict() returned stays as it was while the run goes on, and so does the handler when that is changed."""
    handler, fake = _stateful(case), FakeEngine()
    case.attach(handler, fake)
    play_case(case, fake)
    state = handler.state_dict()
    kept = copy.deepcopy(state)
    require(
        equal(handler.state_dict(), kept),
        "state_dict() gave something else the second time; it must change nothing",
    )
    play_case(case, fake)
    require(
        equal(state, kept),
        f"state_dict() returned {kept!r}, which became {state!r} as the run went on; return copies (list(...), tensor.clone())",
    )
    now = copy.deepcopy(handler.state_dict())
    _spoil(state)
    require(
        equal(handler.state_dict(), now),
        "a change of what state_dict() had returned changed the handler; return copies",
    )


def _stateful(case: HandlerCase) -> Any:
    handler = case.make()
    has = [name for name in ("state_dict", "load_state_dict") if callable(getattr(handler, name, None))]
    if not has:
        raise CheckSkipped("the handler has no state_dict")
    require(
        len(has) == len(("save", "load")),
        f"it has {has[0]}, and not the other one of state_dict and load_state_dict",
    )
    return handler


def _spoil(state: Any) -> None:
    for key, value in list(state.items()) if isinstance(state, dict) else ():
        if isinstance(value, list):
            value.append("spoilt")
        elif isinstance(value, dict):
            value["spoilt"] = True
        elif hasattr(value, "fill_"):
            value.fill_(77)
        state[key] = "spoilt"


def through_file(state: Any) -> Any:
    """Return a state as it comes back from ``torch.load(weights_only=True)``; without torch, plain values as they are."""
    if importlib.util.find_spec("torch") is None:
        _require_plain(state)
        return pickle.loads(pickle.dumps(state))  # noqa: S301 - our own
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckFailed(
            f"the state {state!r} cannot be loaded with torch.load(weights_only=True), which keeps files from running code. "
            "Return numbers, strings, tensors, None, and lists and dicts of these (a numpy scalar: value.item())"
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
            f"the state holds {value!r}, which a checkpoint that is loaded safely cannot; return numbers, strings, tensors, None, "
            "and lists and dicts of these",
        )


def _plain(value: Any) -> Any:
    """Return a value with tuples as lists, as which they may come back."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def can_be_pickled_or_explains(case: HandlerCase) -> None:
    """A handler can be pickled and the copy works, or the error names the handler and the reason."""
    handler = case.make()
    name = type(handler).__name__
    if "<locals>" in type(handler).__qualname__:
        raise CheckSkipped(f"{name} is defined in a function, from where nothing can be pickled")
    try:
        made = pickle.loads(pickle.dumps(handler))  # noqa: S301 - our own
    except Exception as error:  # noqa: BLE001 - it is looked at
        told = str(error)
        if _is_of_the_case(told, case, handler):
            raise CheckSkipped(
                f"the case gives the handler a function that cannot be pickled: {told}"
            ) from None
        require(
            name in told,
            f"pickling failed with {error!r}, which names neither the handler nor a way out. Leave out what cannot be pickled "
            f"(__getstate__), or raise TypeError('{name} cannot be pickled, because ...') there",
        )
        return
    fake = FakeEngine()
    case.attach(made, fake)
    play_case(case, fake)


def _is_of_the_case(told: str, case: HandlerCase, handler: Any) -> bool:
    """Whether a function that cannot be pickled was given to the handler by whoever wrote the case."""
    where = getattr(case.make, "__module__", "")
    local = re.search(r"local object '?(?:<function )?(\w+)\.", told)
    if local is None:
        return "<lambda>" in told and where in told
    owners = {kind.__name__ for kind in type(handler).__mro__}
    return local[1] in vars(sys.modules.get(where, object)) and local[1] not in owners


def constructor_waits_for_no_rank(case: HandlerCase) -> None:
    """One rank alone can make a handler: the constructor calls nothing that waits for the others."""

    def make_on(rank: int) -> None:
        if rank == 0:
            case.make()
        else:
            time.sleep(0.3)

    try:
        on_two_ranks(make_on, 10.0)
    except CheckFailed as error:
        raise CheckFailed(
            f"of two ranks one made the handler, and failed. A constructor must not call collectives: do so in the handler of "
            f"Events.STARTED, where all ranks come by. {error}"
        ) from None


def two_ranks_end_together(case: HandlerCase) -> None:
    """Two ranks with the handler come to the end of a run, at the same iteration."""

    def run_on(_: int) -> tuple[int, int, str]:
        engine = engine_for(case)
        case.attach(case.make(), engine)
        state = run(engine).state
        return state.iteration, state.epoch, str(state.outcome)

    first, second = on_two_ranks(run_on)
    require(
        first == second,
        f"(iteration, epoch, outcome) at the end are {first} on rank 0 and {second} on rank 1; let glowplug.distributed.agree_any "
        "or broadcast decide for all ranks",
    )


def process_is_unchanged(case: HandlerCase) -> None:
    """Making and using a handler leaves signals, logging, random numbers, output and threads as they were."""
    with left_as_it_was():
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
