"""Random programs behave the same on the engine and on its reference model."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter

from hypothesis import HealthCheck, given, settings, strategies as st

from glowplug import Engine, Events, Phase

from .programs import EVENTS, EngineRunner, Function, ModelRunner, Program, ScriptedInterrupt
from .reference_model import ScriptedError

EXAMPLES = int(os.environ.get("GLOWPLUG_EXAMPLES", "500"))
# Programs are large examples, so the health checks do not apply. Longer campaigns draw different programs each time.
PROFILE = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 2_000,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
A_TENTH = settings(PROFILE, max_examples=max(1, EXAMPLES // 10))

FIRED_BY_HAND = [name for name in EVENTS if name not in {"EXCEPTION_RAISED", "TERMINATE_SINGLE_EPOCH"}]
small = st.integers(0, 5)


def is_odd(engine, counter):
    """Return whether the counter is odd."""
    return counter % 2 == 1


def in_first_epoch(engine, counter):
    """Return whether the engine is in its first epoch."""
    return engine.state.epoch < 2


rules = st.one_of(
    st.just({}),
    st.just({}),
    st.fixed_dictionaries({"every": st.integers(1, 4)}),
    st.fixed_dictionaries({"once": st.integers(1, 6)}),
    st.fixed_dictionaries({"once": st.lists(st.integers(1, 6), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"before": small}, optional={"every": st.integers(1, 4), "after": small}),
    st.fixed_dictionaries({"after": small}, optional={"every": st.integers(1, 4)}),
    st.sampled_from([{"event_filter": is_odd}, {"event_filter": in_first_epoch}]),
)
stops = st.one_of(
    st.tuples(st.just("terminate"), st.booleans()),
    st.tuples(st.just("terminate_epoch"), st.booleans()),
    st.just(("interrupt",)),
)
quiet_actions = st.one_of(
    stops,
    stops,
    st.tuples(
        st.just("raise"), st.sampled_from([ScriptedError, ScriptedError, ScriptedInterrupt, StopIteration])
    ),
    st.sampled_from([("return True",), ("raise again",), ("replace batch",), ("save",), ("save",), ("run",)]),
    st.tuples(st.just("remove"), st.integers(0, 20)),
    st.tuples(st.just("remove handler"), small, st.sampled_from(EVENTS)),
    st.tuples(st.just("add"), small),
    st.tuples(st.just("set_data"), small),
)
all_actions = quiet_actions | st.tuples(st.just("fire"), st.sampled_from(FIRED_BY_HAND))
impossible_limits = st.fixed_dictionaries(
    {}, optional={name: st.integers(0, 2) for name in ("max_epochs", "max_iters", "epoch_length")}
)


@st.composite
def runs(draw, limit):
    """Draw a call of run(), rarely one with invalid arguments."""
    dice = draw(st.integers(1, 20))
    if dice == 20:
        return "run", draw(st.none() | small), draw(impossible_limits)
    limits = {}
    if dice <= 16:
        limits[limit] = draw(st.integers(1, 4) if limit == "max_epochs" else st.integers(1, 12))
    has_data = draw(st.sampled_from([True] * 7 + [False]))
    if not has_data or draw(st.integers(1, 5)) == 5:
        limits["epoch_length"] = draw(st.integers(1, 6))
    return "run", draw(small) if has_data else None, limits


@st.composite
def data(draw):
    """Draw data with distinct batches, sometimes with an error at the end."""
    kind = draw(st.sampled_from(["list", "list", "sized", "unsized", "generator"]))
    first, length = draw(small) * 100, draw(st.sampled_from([3, 2, 1, 4, 5, 2, 3, 4, 0]))
    ends_badly = kind != "list" and draw(st.integers(0, 9)) == 9
    return kind, [*range(first, first + length), *([-1] if ends_badly else [])]


@st.composite
def programs(draw, actions):
    """Draw a program with few distinct events, so that its actions interact."""
    plans = st.dictionaries(st.integers(1, 5), actions, min_size=1, max_size=3)
    functions = st.builds(Function, phase=st.sampled_from(Phase), actions=plans)
    often = draw(st.sampled_from(EVENTS[:7]))
    where = st.sampled_from([often, *draw(st.lists(st.sampled_from(EVENTS), max_size=4))])
    calls = runs(draw(st.sampled_from(["max_epochs", "max_epochs", "max_iters"])))
    events = st.lists(st.tuples(where, rules), min_size=1, max_size=3)
    not_by_the_user = {"run", "raise", "fire", "return True"}
    user_operations = st.one_of(
        calls,
        calls,
        calls,
        st.tuples(st.just("act"), actions.filter(lambda action: action[0] not in not_by_the_user)),
        st.tuples(st.just("load"), st.booleans(), small),
        st.just(("forget_limits",)),
    )
    return Program(
        functions=draw(st.lists(functions, min_size=1, max_size=4)),
        registrations=draw(st.lists(st.tuples(small, events), min_size=3, max_size=6)),
        at_start=draw(st.integers(1, 5)),
        watched=draw(st.sampled_from([EVENTS, EVENTS, EVENTS[:8], ["TEARDOWN"], []])),
        step=draw(plans | st.just({})),
        data=draw(st.lists(data(), min_size=1, max_size=3)),
        operations=[draw(calls), *draw(st.lists(user_operations, min_size=1, max_size=5))],
    )


@PROFILE
@given(programs(all_actions))
def test_engine_matches_the_model(program):
    """A program has the same trace on the engine and on the model."""
    assert EngineRunner(program).run() == ModelRunner(program).run()


def watched_trace(program):
    """Return the engine's trace of a program with every firing."""
    return EngineRunner(dataclasses.replace(program, watched=EVENTS)).run()


@A_TENTH
@given(programs(quiet_actions))
def test_teardown_fires_once_at_the_end_of_each_run(program):
    """TEARDOWN fires once, as the last event, in each run that is not interrupted or refused."""
    fired = None
    for entry in watched_trace(program):
        if entry[0] == "RUN":
            fired = []
        elif entry[0] == "watch":
            fired.append(entry[1])
        elif entry[0] == "state" and fired:
            ends = ["TEARDOWN"] if entry[1] != "INTERRUPTED" else []
            assert [event for event in fired if event == "TEARDOWN"] == ends
            assert fired[-1] == ("TEARDOWN" if ends else "INTERRUPT")
            fired = None


@A_TENTH
@given(programs(quiet_actions))
def test_each_handler_runs_at_most_once_per_firing(program):
    """A firing calls each registration at most once, whatever is added or removed meanwhile."""
    calls, event = Counter(), None
    for who, what, *_ in watched_trace(program):
        if who == "watch":
            calls, event = Counter(), what
        elif isinstance(what, str) and "." in what:
            calls[what] += 1
            _, events = program.registrations[int(what.split(".")[0])]
            assert calls[what] <= [name for name, _ in events].count(event)


@A_TENTH
@given(
    st.lists(st.tuples(small, st.sampled_from(list(Events)[:8]), st.sampled_from(Phase)), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_handle_removes_exactly_its_registrations(registrations, removed):
    """After removals the remaining handlers run in order, and has_event_handler() finds only these."""
    engine, called = Engine(lambda engine, batch: None), []

    def function(phase):
        def handler(engine, label):
            called.append(label)

        handler.phase = phase
        return handler

    functions = {(number, phase): function(phase) for number, _, phase in registrations}
    handles = [
        engine.add_event_handler(event, functions[number, phase], label)
        for label, (number, event, phase) in enumerate(registrations)
    ]
    for label in removed & set(range(len(handles))):
        handles[label].remove()
        handles[label].remove()
    left = [
        (label, *registration) for label, registration in enumerate(registrations) if label not in removed
    ]
    for event in list(Events)[:8]:
        called.clear()
        engine.fire_event(event)
        expected = sorted((phase, label) for label, _, at, phase in left if at is event)
        assert called == [label for _, label in expected]
        for (number, phase), handler in functions.items():
            is_left = any(rest == (number, event, phase) for _, *rest in left for rest in [tuple(rest)])
            assert engine.has_event_handler(handler, event) == is_left
