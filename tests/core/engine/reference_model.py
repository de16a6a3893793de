"""What an engine does, said as plainly as possible: the properties compare the real engine with this one.

It is slow and knows none of the engine's means: handlers are looked up, sorted and filtered at each firing, batches are
taken from lists, and all that can end an iteration is asked for after each event. An interrupted run does not return:
from where it stands it has the rest of the program played, until that calls run() to go on.
"""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

COUNTERS = {
    "STARTED": "epoch",
    "EPOCH_STARTED": "epoch",
    "GET_BATCH_STARTED": "iteration",
    "GET_BATCH_COMPLETED": "iteration",
    "ITERATION_STARTED": "iteration",
    "ITERATION_COMPLETED": "iteration",
    "EPOCH_COMPLETED": "epoch",
    "COMPLETED": "epoch",
}


class ScriptedError(Exception):
    """The error of the programs."""


class Control(BaseException):
    """Leaves a place of the model; nothing that a program raises."""


class GoesOn(Control):
    """run() was called, and the interrupted run goes on."""


class ProgramOver(Control):
    """The program has ended while a run was interrupted."""


class RunEnds(Control):
    """The run ends: it was terminated, or max_iters is reached within an epoch."""


class EpochEnds(Control):
    """terminate_epoch() was called."""


class Data:
    """What a run is over: batches; -1 stands for an error of the data."""

    def __init__(self, kind, batches):
        self.batches = list(batches)
        self.is_one_shot = kind == "generator"
        self.length = len(self.batches) if kind in {"list", "sized"} else None

    def new_pass(self):
        """Return the batches of one pass; of a generator, those that are left for all passes."""
        return self.batches if self.is_one_shot else list(self.batches)


class Handle:
    """Removes its registrations from a model."""

    def __init__(self, model, registrations):
        self.model, self.registrations = model, registrations

    def remove(self):
        """Take them away; once they are gone, nothing."""
        self.model.registered = [r for r in self.model.registered if r not in self.registrations]


class Registration:
    """One function at one event."""

    def __init__(self, event, event_filter, function, arguments):
        self.event, self.filter, self.function, self.arguments = event, event_filter, function, arguments

    def is_due(self, model, counter):
        """Return whether the filter lets the function run (E-061 to E-065)."""
        rule = self.filter
        if "event_filter" in rule:
            return rule["event_filter"](model, counter)
        if "once" in rule:
            return counter in ([rule["once"]] if isinstance(rule["once"], int) else rule["once"])
        first = 0 if rule.get("after") is None else rule["after"] + 1
        return counter in range(first, rule.get("before", counter + 1), rule.get("every", 1))


class ReferenceEngine:
    """The model; its methods are those of Engine.

    ``play_on()`` plays the rest of the program, and raises GoesOn or ProgramOver.
    """

    def __init__(self, step, play_on):
        self.step, self.play_on = step, play_on
        self.registered = []
        self.firings = Counter()
        self.state = SimpleNamespace(
            iteration=0, epoch=0, epoch_length=None, max_epochs=None, max_iters=None, output=None, batch=None,
            outcome=None,
        )  # fmt: skip
        self.terminating = self.ending_epoch = self.interrupting = None  # what was asked for
        self.is_running = self.is_suspended = self.was_loaded = False
        self.is_under_way = False  # from STARTED to TEARDOWN
        self.data = self.batches = None  # the data, and what is left of the pass over it
        self.passes = 0  # how many were begun
        self.used = None  # how many steps were done on batches of this pass
        self.in_epoch = False
        self.done = 0  # iterations of the epoch
        self.is_step_pending = False  # the iteration is counted, its step not done
        self.place = (
            None  # where a loaded state stands: done in the epoch, used of the pass, length of the data
        )
        self.warnings = 0

    # Handlers

    def add_event_handler(self, events, function, *arguments):
        new = [Registration(event, rule, function, arguments) for event, rule in events]
        self.registered = self.registered + new
        return Handle(self, new)

    def remove_event_handler(self, function, event):
        left = [r for r in self.registered if (r.function, r.event) != (function, event)]
        if left == self.registered:
            raise ValueError
        self.registered = left

    def has_event_handler(self, function, event):
        return any((r.function, r.event) == (function, event) for r in self.registered)

    def due(self, event):
        self.firings[event] += 1
        counter = getattr(self.state, COUNTERS[event]) if event in COUNTERS else self.firings[event]
        ordered = sorted(self.registered, key=lambda r: r.function.phase)
        return [r for r in ordered if r.event == event and r.is_due(self, counter)]

    def fire_event(self, event, **extra):
        for registration in self.due(event):
            registration.function(self, *registration.arguments, **extra)

    # Requests

    def terminate(self, skip_completed=False):
        self.terminating = "skip" if skip_completed else "fire"

    def terminate_epoch(self, skip_epoch_completed=False):
        self.ending_epoch = "skip" if skip_epoch_completed else "fire"

    def interrupt(self):
        self.interrupting = True

    def set_data(self, data):
        if self.is_under_way:
            self.data = data
            self.begin_pass()

    # Saving and loading

    def state_dict(self):
        state, pending = self.state, self.is_step_pending
        limit = "max_iters" if state.max_iters is not None else "max_epochs"
        done, used, length = self.place or (0, None, None)
        if self.place is None:
            used, length = self.used, self.data.length if self.data else None
        if self.in_epoch:
            done = self.done - pending
        return {
            "iteration": state.iteration - pending,
            "epoch_length": state.epoch_length or None,
            limit: getattr(state, limit),
            "place": (
                state.epoch - self.in_epoch,
                done if self.in_epoch or self.place else None,
                used,
                length,
            ),
        }

    def load_state_dict(self, saved):
        state = self.state
        state.iteration, state.epoch_length = saved["iteration"], saved["epoch_length"]
        state.max_epochs, state.max_iters = saved.get("max_epochs"), saved.get("max_iters")
        state.epoch, *place = saved["place"]
        self.place = tuple(place)
        self.in_epoch = self.is_step_pending = self.is_suspended = self.is_under_way = False
        self.was_loaded = True
        self.data = self.batches = self.used = state.outcome = None

    # Running

    def run(self, data=None, max_epochs=None, max_iters=None, epoch_length=None):
        state = self.state
        if self.is_running:  # E-102
            raise ValueError
        limits = self.check_limits(max_epochs, max_iters)
        has_none = state.max_epochs is None and state.max_iters is None
        is_new = has_none or (not self.is_suspended and not self.was_loaded and self.is_over(*limits))
        length = epoch_length
        if length is None and data is not None:
            length = data.length
        if is_new:
            if length is None and data is None:
                length = state.epoch_length
            self.check_length(data, length)
            self.reset()
            state.epoch_length = length
            limits = (1, None) if (max_epochs, max_iters) == (None, None) else (max_epochs, max_iters)
        elif epoch_length not in (None, state.epoch_length) and (self.is_suspended or state.epoch_length):
            raise ValueError  # E-098
        elif not self.is_suspended:
            if state.epoch_length is None:
                self.check_length(data, length)
                state.epoch_length = length
            self.resume()
        state.max_epochs, state.max_iters = limits
        state.outcome = None
        self.was_loaded = False
        if self.is_suspended and not is_new:  # E-138, E-139
            raise GoesOn
        self.is_suspended = False
        self.terminating = self.ending_epoch = self.interrupting = None  # E-094
        self.data, self.batches, self.used = data, None, None
        self.play_run()
        return state

    def check_limits(self, max_epochs, max_iters):
        state = self.state
        if max_epochs is not None and max_iters is not None:
            raise ValueError
        if max_epochs is None and max_iters is None:
            return state.max_epochs, state.max_iters
        by_iterations = max_iters is not None
        limit = max_iters if by_iterations else max_epochs
        if limit < 1:  # E-101
            raise ValueError
        if state.max_epochs is not None or state.max_iters is not None:
            if by_iterations != (state.max_iters is not None):  # E-097
                raise ValueError
            if limit < (state.iteration if by_iterations else state.epoch):  # E-095
                raise ValueError
        return max_epochs, max_iters

    def check_length(self, data, length):
        if (length is None and data is None) or (length is not None and length < 1):  # E-100
            raise ValueError

    def reset(self):
        state = self.state
        state.iteration = state.epoch = self.done = 0
        state.output = state.batch = None
        self.in_epoch = self.is_step_pending = False
        self.place = None
        self.firings.clear()

    def resume(self):
        if self.place is not None:
            self.done = self.place[0] or 0
        elif self.state.outcome == "FAILED" and not self.terminating:  # E-158
            self.done = self.done % self.state.epoch_length if self.state.epoch_length else 0
        else:  # E-134
            self.done = 0
        self.in_epoch = self.is_step_pending = False

    def is_over(self, max_epochs, max_iters):
        """Return whether nothing is left to do (E-092)."""
        state = self.state
        if state.epoch_length == 0:
            return True
        if max_iters is not None and state.iteration >= max_iters:
            return True
        if max_epochs is None:
            return False
        by_iterations = state.epoch_length is not None and state.iteration >= state.epoch_length * max_epochs
        return by_iterations or state.epoch >= max_epochs

    def play_run(self):
        self.is_running = self.is_under_way = True
        problem = None
        try:
            outcome = self.play_epochs()
        except Control:
            raise
        except BaseException as error:
            outcome, problem = (
                "FAILED",
                self.tell(RuntimeError() if isinstance(error, StopIteration) else error),
            )
        self.state.outcome = outcome
        self.is_under_way = False
        for registration in self.due("TEARDOWN"):
            try:
                registration.function(self, *registration.arguments)
            except BaseException as error:
                self.state.outcome = "FAILED"
                problem = problem or error
        self.is_running = False
        if problem is not None:
            raise problem

    def tell(self, error):
        """Tell each EXCEPTION_RAISED handler once, and return what run() raises (E-155)."""
        self.state.outcome = "FAILED"
        is_kept, others = False, []
        for registration in self.due("EXCEPTION_RAISED"):
            try:
                if registration.function(self, error, *registration.arguments) is True:
                    is_kept = True
            except BaseException as raised:
                if raised is not error:
                    others.append(raised)
        if others:
            return others[0]
        return None if is_kept else error

    def play_epochs(self):
        outcome = "COMPLETED"
        try:
            self.happen("STARTED")
            while self.has_an_epoch_to_do():
                self.play_epoch()
        except RunEnds:
            if self.terminating:
                outcome = "TERMINATED"
            self.fire_event("TERMINATE")
        if self.terminating != "skip":
            self.fire_event("COMPLETED")
        return outcome

    def has_an_epoch_to_do(self):
        state = self.state
        if self.place is not None and self.place[0] is not None:  # the loaded state is within an epoch
            within = state.max_iters == state.iteration and self.done != state.epoch_length
            return not within and (state.max_epochs is None or state.epoch < state.max_epochs)
        return not self.is_over(state.max_epochs, state.max_iters)

    def play_epoch(self):
        self.state.epoch += 1
        self.in_epoch = True
        self.happen("EPOCH_STARTED")
        self.check_max_iters()
        ended_early = False
        try:
            self.play_iterations()
        except EpochEnds:
            ended_early = True
            self.batches = self.used = None
        done, self.done, self.in_epoch = self.done, 0, False
        self.is_step_pending = False
        if self.place is not None:
            self.place = (None, *self.place[1:])
        skips = False
        if ended_early:
            self.happen("TERMINATE_SINGLE_EPOCH", iter_counter=done)
            skips, self.ending_epoch = self.ending_epoch == "skip", None
        if not skips:
            self.happen("EPOCH_COMPLETED")

    def play_iterations(self):
        state = self.state
        while state.epoch_length is None or self.done < state.epoch_length:
            self.check_max_iters()
            if self.batches is None:
                self.begin_pass()
            state.batch = None
            if self.data is not None:
                self.happen("GET_BATCH_STARTED")
                self.check_max_iters()
            if not self.has_a_batch():
                return
            state.batch = self.take_batch()
            state.output = None
            if self.data is not None:
                self.happen("GET_BATCH_COMPLETED")
                self.check_max_iters()
            state.iteration += 1
            self.done += 1
            self.is_step_pending = True
            self.happen("ITERATION_STARTED")
            state.output = self.step(self, state.batch)
            self.is_step_pending = False
            if self.passes == self.pass_of_batch and self.used is not None:
                self.used += 1
            self.happen("ITERATION_COMPLETED")

    def check_max_iters(self):
        """End the run where max_iters falls into an epoch (E-104)."""
        state = self.state
        if state.iteration == state.max_iters and self.done != state.epoch_length:
            raise RunEnds

    def begin_pass(self):
        place, self.place = self.place, None
        self.passes += 1
        if self.data is None:
            self.batches, self.used = [], None
            return
        self.batches, self.used = self.data.new_pass(), 0
        _, used, length = place or (None, None, None)
        if not used or used == length == self.data.length:
            return
        if length != self.data.length or self.data.is_one_shot:
            raise ValueError
        if -1 in self.batches[:used]:  # what is skipped is read
            raise ScriptedError("data")
        self.batches, self.used = self.batches[used:], used

    def has_a_batch(self):
        """Return whether there is a batch, begin the data anew if not, or end the epoch (E-015, E-110, E-111)."""
        state = self.state
        if self.data is None or self.batches:
            return True
        if state.epoch_length is None:
            state.epoch_length = self.done
            if state.max_iters is not None:  # E-105
                state.max_epochs = math.ceil(state.max_iters / self.done) if self.done else state.epoch
            return False
        self.happen("DATALOADER_STOP_ITERATION")
        self.check_max_iters()
        self.begin_pass()
        if self.batches:
            return True
        self.warnings += 1
        if state.max_epochs is None and not self.done:
            self.terminate()
            raise RunEnds
        return False

    def take_batch(self):
        self.pass_of_batch = self.passes
        if self.data is None:
            return None
        batch = self.batches.pop(0)
        if batch < 0:
            if self.data.is_one_shot:
                self.batches.clear()
            raise ScriptedError("data")
        return batch

    def happen(self, event, **extra):
        """Fire an event, and do what was asked for by then (E-130 to E-138)."""
        self.fire_event(event, **extra)
        while self.terminating or self.ending_epoch or self.interrupting:
            if self.terminating:
                raise RunEnds
            if self.ending_epoch and event in {"STARTED", "EPOCH_STARTED"}:
                raise RuntimeError
            if self.ending_epoch and event == "EPOCH_COMPLETED":
                self.ending_epoch = None
            if self.ending_epoch and event != "TERMINATE_SINGLE_EPOCH":
                raise EpochEnds
            if not self.interrupting:
                return
            self.fire_event("INTERRUPT")
            self.interrupting = None
            self.suspend()

    def suspend(self):
        self.state.outcome = "INTERRUPTED"
        self.is_running, self.is_suspended = False, True
        try:
            self.play_on()
        except GoesOn:
            self.is_running, self.is_suspended = True, False
