"""Programs for an engine: what they consist of, and how one is played on the real engine or on the model."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from glowplug import Engine, EventEnum, Events, Phase

from .reference_model import Control, Data, ProgramOver, ReferenceEngine, ScriptedError


class DoesNotEnd(Control):
    """The run seems to go on for ever."""


class Moments(EventEnum):
    """An event of the user's own, without a counter."""

    HALFTIME = "halftime"


REAL_EVENTS = {**Events.__members__, "HALFTIME": Moments.HALFTIME}
EVENTS = list(REAL_EVENTS)


class Interrupted(KeyboardInterrupt):
    """The Ctrl-C of the programs: not that of who runs the tests."""


@dataclass(frozen=True)
class Function:
    """What a handler does: at its n-th call, the n-th of its actions."""

    phase: Phase
    actions: dict[int, tuple[Any, ...]]


@dataclass(frozen=True)
class Program:
    """Functions, what is registered of them from the start and on the way, data, and what the user does."""

    functions: list[Function]
    registrations: list[tuple[int, list[tuple[str, dict[str, Any]]]]]
    at_start: int
    watched: list[str]
    step: dict[int, tuple[Any, ...]]
    data: list[tuple[str, list[int]]]
    script: list[tuple[Any, ...]]


class Unsized:
    """Batches that can be iterated over again and again, and do not tell how many they are."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return given_out(self.batches)


class Sized(Unsized):
    """The same, with a length."""

    def __len__(self):
        return len(self.batches)


def given_out(batches):
    """Yield batches; at a negative one the data fails."""
    for batch in batches:
        if batch < 0:
            raise ScriptedError("data")
        yield batch


REAL_DATA = {"list": list, "sized": Sized, "unsized": Unsized, "generator": given_out}


def described(error):
    """Return an error as the traces hold it: its kind, and the text where a program raised it."""
    return (type(error).__name__, *(error.args if isinstance(error, (ScriptedError, Interrupted)) else ()))


class Player:
    """Plays a program, and writes down all that can be seen of it."""

    def __init__(self, program):
        self.program = program
        self.trace = []
        self.calls = Counter()
        self.handles = []
        self.saved = []
        self.models = []
        self.script = list(program.script)
        self.data = [self.make_data(data) for data in program.data]
        self.functions = [self.make_function(i) for i in range(len(program.functions))]
        self.watch = self.make_watch()
        self.engine = self.new_engine()

    def play(self):
        """Play the whole program, and return the trace."""
        with contextlib.suppress(ProgramOver):
            self.play_on()
        return self.trace

    def play_on(self):
        """Play what is left of the script."""
        while self.script:
            operation, *arguments = self.script.pop(0)
            getattr(self, f"play_{operation}")(*arguments)

    # What a user does

    def play_run(self, data, limits):
        self.note("RUN", data, limits)
        try:
            result = self.engine.run(None if data is None else self.data[data % len(self.data)], **limits)
        except Control:
            raise
        except BaseException as error:
            self.note("raised", *described(error))
        else:
            self.note("returned", result is self.engine.state)
        self.note_state()

    def play_act(self, action):
        try:
            self.act(self.engine, action)
        except (ValueError, ScriptedError) as error:
            self.note("refused", type(error).__name__)

    def play_forget_limits(self):
        self.engine.state.max_epochs = self.engine.state.max_iters = None

    def play_load(self, into_new, which):
        if not self.saved:
            self.act(self.engine, ("save",))
        if into_new:
            self.engine = self.new_engine()
        self.engine.load_state_dict(self.saved[which % len(self.saved)])
        self.note_state()

    # What functions and the step do

    def act(self, engine, action, error=None):
        name, *arguments = action
        if name in {"terminate", "terminate_epoch"}:
            getattr(engine, name)(*arguments)
        elif name == "interrupt":
            engine.interrupt()
        elif name == "raise":
            raise arguments[0]("raised")
        elif name == "raise again" and error is not None:
            raise error
        elif name == "remove" and self.handles:
            self.handles[arguments[0] % len(self.handles)].remove()
        elif name == "remove handler":
            function, event = arguments
            self.remove(engine, self.functions[function % len(self.functions)], event)
        elif name == "add":
            self.register(engine, arguments[0] % len(self.program.registrations))
        elif name == "set_data":
            engine.set_data(self.data[arguments[0] % len(self.data)])
        elif name == "fire":
            self.fire(engine, *arguments)
        elif name == "replace batch":
            engine.state.batch = "replaced"
        elif name == "save":
            self.saved.append(engine.state_dict())
            known = ("iteration", "epoch_length", "max_epochs", "max_iters")
            self.note("saved", {key: self.saved[-1].get(key) for key in known})
        elif name == "run":
            engine.run([0])

    def make_function(self, index):
        specification = self.program.functions[index]

        def function(engine, *payload, iter_counter=None):
            self.calls[index] += 1
            error = payload[0] if isinstance(payload[0], BaseException) else None
            shown = [described(error)] if error else []
            self.note_call(f"f{index}", payload[-1], engine, *shown, iter_counter)
            action = specification.actions.get(self.calls[index], ("nothing",))
            self.act(engine, action, error)
            return action == ("return True",)

        function.phase = specification.phase
        return function

    def make_watch(self):
        def watch(engine, *payload, iter_counter=None):
            self.note_call("watch", payload[-1], engine, iter_counter)

        watch.phase = Phase.METRICS  # with it, and first of all, each firing begins in the trace
        return watch

    def step(self, engine, batch):
        self.calls["step"] += 1
        self.note_call("step", batch, engine)
        self.act(engine, self.program.step.get(self.calls["step"], ("nothing",)))
        return self.calls["step"]

    # What is written down

    def note(self, *entry):
        self.trace.append(entry)
        if len(self.trace) > 3000:
            raise DoesNotEnd

    def note_call(self, who, what, engine, *more):
        state = engine.state
        self.note(who, what, state.epoch, state.iteration, state.batch, state.output, *more)

    def note_state(self):
        state = self.engine.state
        outcome = getattr(state.outcome, "name", state.outcome)
        limits = (state.epoch_length, state.max_epochs, state.max_iters)
        self.note("state", outcome, state.epoch, state.iteration, *limits, self.warned)
        for index, function in enumerate(self.functions):
            self.note("has", index, [event for event in EVENTS if self.has(function, event)])

    def register_all(self, engine):
        for event in self.program.watched:
            self.add(engine, self.watch, [(event, {})], event)  # its handle is thrown away: it stays
        for index in range(min(self.program.at_start, len(self.program.registrations))):
            self.register(engine, index)

    def register(self, engine, index):
        function, events = self.program.registrations[index]
        label = f"{index}.{len(self.handles)}"
        self.handles.append(self.add(engine, self.functions[function % len(self.functions)], events, label))


class OnEngine(Player):
    """Plays on the real engine."""

    warned = 0  # of data that gave no more batches

    def play(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.showwarning = self.count_warning
            warnings.filterwarnings("always", message="epoch .* ends after")
            return super().play()

    def count_warning(self, *_, **__):
        self.warned += 1

    def new_engine(self):
        engine = Engine(self.step)
        engine.register_events(Moments.HALFTIME)
        self.register_all(engine)
        return engine

    def make_data(self, data):
        kind, batches = data
        return REAL_DATA[kind](batches)

    def add(self, engine, function, events, label):
        listed = reduce(
            or_, (REAL_EVENTS[name](**rule) if rule else REAL_EVENTS[name] for name, rule in events)
        )
        return engine.add_event_handler(listed, function, label)

    def remove(self, engine, function, event):
        engine.remove_event_handler(function, REAL_EVENTS[event])

    def has(self, function, event):
        return self.engine.has_event_handler(function, REAL_EVENTS[event])

    def fire(self, engine, event):
        engine.fire_event(REAL_EVENTS[event])


class OnModel(Player):
    """Plays on the model."""

    @property
    def warned(self):
        """The number of warnings of all models of this program."""
        return sum(model.warnings for model in self.models)

    def new_engine(self):
        model = ReferenceEngine(self.step, self.when_interrupted)
        self.models.append(model)
        self.register_all(model)
        return model

    def when_interrupted(self):
        """Go on after run() has returned in the middle of a run, until it is called again."""
        self.note("returned", True)
        self.note_state()
        self.play_on()
        raise ProgramOver

    def make_data(self, data):
        return Data(*data)

    def add(self, engine, function, events, label):
        return engine.add_event_handler(events, function, label)

    def remove(self, engine, function, event):
        engine.remove_event_handler(function, event)

    def has(self, function, event):
        return self.engine.has_event_handler(function, event)

    def fire(self, engine, event):
        engine.fire_event(event)
