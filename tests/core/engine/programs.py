"""Programs for the property tests, and their execution on the engine and on the model."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from glowplug import Engine, EventEnum, Events, Phase

from .reference_model import Control, Data, EndProgram, ReferenceEngine, ScriptedError


class EndlessRun(Control):
    """The run does not appear to end."""


class CustomEvents(EventEnum):
    """A custom event without a counter."""

    HALFTIME = "halftime"


REAL_EVENTS = {**Events.__members__, "HALFTIME": CustomEvents.HALFTIME}
EVENTS = list(REAL_EVENTS)


class ScriptedInterrupt(KeyboardInterrupt):
    """The KeyboardInterrupt that programs raise, distinct from a real Ctrl-C."""


@dataclass(frozen=True)
class Function:
    """The actions of a handler, by the number of its call."""

    phase: Phase
    actions: dict[int, tuple[Any, ...]]


@dataclass(frozen=True)
class Program:
    """Handler functions, their registrations, the data, and the operations of the user."""

    functions: list[Function]
    registrations: list[tuple[int, list[tuple[str, dict[str, Any]]]]]
    at_start: int
    watched: list[str]
    step: dict[int, tuple[Any, ...]]
    data: list[tuple[str, list[int]]]
    operations: list[tuple[Any, ...]]


class Unsized:
    """Re-iterable batches without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iterate(self.batches)


class Sized(Unsized):
    """Re-iterable batches with a length."""

    def __len__(self):
        return len(self.batches)


def iterate(batches):
    """Yield batches; raise an error at a negative one."""
    for batch in batches:
        if batch < 0:
            raise ScriptedError("data")
        yield batch


REAL_DATA = {"list": list, "sized": Sized, "unsized": Unsized, "generator": iterate}


def describe_error(error):
    """Return the type of an error for the trace, and its text if a program raised it."""
    return (
        type(error).__name__,
        *(error.args if isinstance(error, (ScriptedError, ScriptedInterrupt)) else ()),
    )


class ProgramRunner:
    """Executes a program and records a trace of all visible behaviour."""

    def __init__(self, program):
        self.program = program
        self.trace = []
        self.calls = Counter()
        self.handles = []
        self.saved = []
        self.models = []
        self.operations = list(program.operations)
        self.data = [self.make_data(data) for data in program.data]
        self.functions = [self.make_function(i) for i in range(len(program.functions))]
        self.watch = self.make_watcher()
        self.engine = self.new_engine()

    def run(self):
        """Execute the whole program, and return the trace."""
        with contextlib.suppress(EndProgram):
            self.run_operations()
        return self.trace

    def run_operations(self):
        """Execute the remaining operations."""
        while self.operations:
            operation, *arguments = self.operations.pop(0)
            getattr(self, f"do_{operation}")(*arguments)

    # Operations of the user

    def do_run(self, data, limits):
        self.record("RUN", data, limits)
        try:
            result = self.engine.run(None if data is None else self.data[data % len(self.data)], **limits)
        except Control:
            raise
        except BaseException as error:
            self.record("raised", *describe_error(error))
        else:
            self.record("returned", result is self.engine.state)
        self.record_state()

    def do_act(self, action):
        try:
            self.perform(self.engine, action)
        except (ValueError, ScriptedError) as error:
            self.record("refused", type(error).__name__)

    def do_forget_limits(self):
        self.engine.state.max_epochs = self.engine.state.max_iters = None

    def do_load(self, into_new, which):
        if not self.saved:
            self.perform(self.engine, ("save",))
        if into_new:
            self.engine = self.new_engine()
        self.engine.load_state_dict(self.saved[which % len(self.saved)])
        self.record_state()

    # Actions of handlers and the step

    def perform(self, engine, action, error=None):
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
            self.record("saved", {key: self.saved[-1].get(key) for key in known})
        elif name == "run":
            engine.run([0])

    def make_function(self, index):
        specification = self.program.functions[index]

        def function(engine, *payload, iter_counter=None):
            self.calls[index] += 1
            error = payload[0] if isinstance(payload[0], BaseException) else None
            shown = [describe_error(error)] if error else []
            self.record_call(f"f{index}", payload[-1], engine, *shown, iter_counter)
            action = specification.actions.get(self.calls[index], ("nothing",))
            self.perform(engine, action, error)
            return action == ("return True",)

        function.phase = specification.phase
        return function

    def make_watcher(self):
        def watch(engine, *payload, iter_counter=None):
            self.record_call("watch", payload[-1], engine, iter_counter)

        # The first handler of the first phase marks the start of each firing in the trace.
        watch.phase = Phase.METRICS
        return watch

    def step(self, engine, batch):
        self.calls["step"] += 1
        self.record_call("step", batch, engine)
        self.perform(engine, self.program.step.get(self.calls["step"], ("nothing",)))
        return self.calls["step"]

    # Recording

    def record(self, *entry):
        self.trace.append(entry)
        if len(self.trace) > 3000:
            raise EndlessRun

    def record_call(self, who, what, engine, *more):
        state = engine.state
        self.record(who, what, state.epoch, state.iteration, state.batch, state.output, *more)

    def record_state(self):
        state = self.engine.state
        outcome = getattr(state.outcome, "name", state.outcome)
        limits = (state.epoch_length, state.max_epochs, state.max_iters)
        self.record("state", outcome, state.epoch, state.iteration, *limits, self.warning_count)
        for index, function in enumerate(self.functions):
            self.record("has", index, [event for event in EVENTS if self.has(function, event)])

    def register_all(self, engine):
        for event in self.program.watched:
            # The handle is discarded, so no program removes the watcher.
            self.add(engine, self.watch, [(event, {})], event)
        for index in range(min(self.program.at_start, len(self.program.registrations))):
            self.register(engine, index)

    def register(self, engine, index):
        function, events = self.program.registrations[index]
        label = f"{index}.{len(self.handles)}"
        self.handles.append(self.add(engine, self.functions[function % len(self.functions)], events, label))


class EngineRunner(ProgramRunner):
    """Executes programs on the real engine."""

    # The number of warnings about exhausted data and wrong lengths.
    warning_count = 0

    def run(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.showwarning = self.count_warning
            warnings.filterwarnings("always", message="epoch ")
            return super().run()

    def count_warning(self, *_, **__):
        self.warning_count += 1

    def new_engine(self):
        engine = Engine(self.step)
        engine.register_events(CustomEvents.HALFTIME)
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


class ModelRunner(ProgramRunner):
    """Executes programs on the model."""

    @property
    def warning_count(self):
        """Return the number of warnings of all models of this program."""
        return sum(model.warnings for model in self.models)

    def new_engine(self):
        model = ReferenceEngine(self.step, self.run_interrupted)
        self.models.append(model)
        self.register_all(model)
        return model

    def run_interrupted(self):
        """Execute the operations after an interrupted run() until the next run()."""
        self.record("returned", True)
        self.record_state()
        self.run_operations()
        raise EndProgram

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
