"""The cost of the engine, compared with a loop that keeps iteration, batch and output in a state object."""

import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path

import ignite.engine
from harness import FLOOR, GLOWPLUG, IGNITE, Goal, Row, in_new_process, per_call, per_iteration

import glowplug

LONG, SHORT = 100_000, 3_000  # iterations of a round; ignite's are fewer, as each takes fifty times as long
PLUGINS = 10


class Kept:
    """The state of the loop written by hand."""

    def __init__(self):
        self.iteration = 0
        self.batch = self.output = None


def step(engine, batch):
    """Do nothing."""


def handler(engine):
    """Do nothing."""


def by_hand():
    """Return a loop that calls the step and keeps its state."""

    def run(data):
        state = Kept()
        for batch in data:
            state.iteration += 1
            state.batch = batch
            state.output = step(state, batch)

    return run


def by_hand_with_ten():
    """Return the same loop with ten functions to call."""
    functions = [handler] * 10

    def run(data):
        state = Kept()
        for batch in data:
            state.iteration += 1
            state.batch = batch
            state.output = step(state, batch)
            for function in functions:
                function(state)

    return run


def by_hand_with_five_every_thousand():
    """Return the same loop with five conditions."""

    def run(data):
        state = Kept()
        for batch in data:
            state.iteration += 1
            state.batch = batch
            state.output = step(state, batch)
            if state.iteration % 1000 == 0:
                handler(state)
            if state.iteration % 1000 == 0:
                handler(state)
            if state.iteration % 1000 == 0:
                handler(state)
            if state.iteration % 1000 == 0:
                handler(state)
            if state.iteration % 1000 == 0:
                handler(state)

    return run


def engine_with(library, handlers=0, every=None):
    """Return a factory of engines with several handlers of ITERATION_COMPLETED."""

    def make():
        engine = library.Engine(step)
        event = library.Events.ITERATION_COMPLETED
        for _ in range(handlers):
            engine.add_event_handler(event if every is None else event(every=every), handler)
        return engine.run

    return make


class Shuffled(Iterable):
    """Data that may draw random numbers, like a DataLoader, so the engine saves the random states."""

    def __len__(self):
        return 1

    def __iter__(self):
        return iter((1,))


def epochs_of(library, data):
    """Return a function that starts a new run of one epoch."""
    engine = library.Engine(step)
    return lambda: engine.run(data)


def add_and_remove(library):
    """Return a function that adds a handler and removes it."""
    engine = library.Engine(step)
    return lambda: engine.add_event_handler(library.Events.STARTED, handler).remove()


def iterations_row(what, floor, goals, handlers=0, every=None):
    """Return the row of an engine with such handlers, per iteration."""
    return Row(
        what,
        {
            FLOOR: per_iteration(floor, LONG),
            IGNITE: per_iteration(engine_with(ignite.engine, handlers, every), SHORT),
            GLOWPLUG: per_iteration(engine_with(glowplug, handlers, every), LONG),
        },
        goals,
        rounds=31,
    )


def calls_row(what, make, goal, calls=1000):
    """Return the row of a function of either library, per call."""
    return Row(
        what,
        {IGNITE: per_call(make(ignite.engine), calls), GLOWPLUG: per_call(make(glowplug), calls)},
        (goal,),
        rounds=31,
    )


THOUSAND_ITERATIONS = """
import sys, time
from glowplug import Engine, Events
from glowplug.plugins import get_registry

found = len(get_registry().plugins)
assert found == int(sys.argv[1]), found
engine = Engine(lambda engine, batch: None)
engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: None)
data, best = list(range(1000)), 1e9
for _ in range(200):
    started = time.perf_counter()
    engine.run(data)
    best = min(best, time.perf_counter() - started)
print(best * 1e6)
"""


def plugins_row(folder):
    """Return the row that shows the cost of plugins that are installed but not attached."""
    for number in range(PLUGINS):
        name = f"bench_plugin_{number}"
        (folder / f"{name}.py").write_text("GLOWPLUG_API = 1\n\ndef glowplug_offers():\n    return []\n")
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            textwrap.dedent(f"""\
            [glowplug]
            {name} = {name}
            """)
        )
    names = ",".join(f"bench_plugin_{number}" for number in range(PLUGINS))

    def run(allowed, count):
        return in_new_process(
            THOUSAND_ITERATIONS, str(count), GLOWPLUG_PLUGINS=allowed, PYTHONPATH=str(folder)
        )

    return Row(
        "1000 iterations with a handler, 10 plugins installed (by hand: no plugins)",
        {FLOOR: lambda: run("", 0), GLOWPLUG: lambda: run(names, PLUGINS)},
        (Goal(1.05, FLOOR),),
        rounds=9,
    )


def rows():
    """Yield the rows of this theme."""
    yield iterations_row("empty step, no handlers", by_hand, (Goal(1.8, FLOOR), Goal(1 / 30, IGNITE)))
    yield iterations_row(
        "10 handlers on ITERATION_COMPLETED", by_hand_with_ten, (Goal(1.4, FLOOR),), handlers=10
    )
    yield iterations_row(
        "5 handlers with every=1000",
        by_hand_with_five_every_thousand,
        (Goal(2, FLOOR),),
        handlers=5,
        every=1000,
    )
    yield calls_row(
        "one epoch of one batch from a list", lambda library: epochs_of(library, [1]), Goal(1, IGNITE)
    )
    yield calls_row(
        "one epoch of one batch from data that may draw random numbers",
        lambda library: epochs_of(library, Shuffled()),
        Goal(1, IGNITE),
    )
    yield calls_row("Engine(f)", lambda library: lambda: library.Engine(step), Goal(0.5, IGNITE))
    yield calls_row("add a handler and remove it", add_and_remove, Goal(0.5, IGNITE))
    with tempfile.TemporaryDirectory() as folder:
        yield plugins_row(Path(folder))
