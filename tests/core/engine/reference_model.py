"""Reference model of the engine, with which the property tests compare the real one.

The model prefers plain code to speed: it looks up, sorts and filters handlers at each firing, takes batches from lists,
and checks for stop requests after each event. An interrupted run does not return. It executes the rest of the program
from the interrupted event, until the program calls run() to continue.
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
    """The exception that programs raise."""


class Control(BaseException):
    """Base of the exceptions that control the model; programs do not raise them."""


class Continue(Control):
    """The program called run() to continue the interrupted run."""


class EndProgram(Control):
    """The program ended while a run was interrupted."""


class EndRun(Control):
    """The run was terminated, or reached max_iters within an epoch."""


class EndEpoch(Control):
    """terminate_epoch() was called."""


class Data:
    """The batches of a run; -1 represents an error of the data."""

    def __init__(self, kind, batches):
        self.batches = list(batches)
        self.is_one_shot = kind == "generator"
        self.length = len(self.batches) if kind in {"list", "sized"} else None

    def iterate(self):
        """Return the batches of one pass; all passes over a generator share one list."""
        return self.batches if self.is_one_shot else list(self.batches)


class Handle:
    """Handle that removes its registrations from a model."""

    def __init__(self, model, registrations):
        self.model, self.registrations = model, registrations

    def remove(self):
        """Remove the registrations; further calls do nothing."""
        self.model.registered = [r for r in self.model.registered if r not in self.registrations]


class Registration:
    """One function registered at one event."""

    def __init__(self, event, event_filter, function, arguments):
        self.event, self.filter, self.function, self.arguments = event, event_filter, function, arguments

    def is_due(self, model, counter):
        """Return whether the filter accepts the counter (E-061 to E-065)."""
        rule = self.filter
        if "event_filter" in rule:
            return rule["event_filter"](model, counter)
        if "once" in rule:
            return counter in ([rule["once"]] if isinstance(rule["once"], int) else rule["once"])
        first = 0 if rule.get("after") is None else rule["after"] + 1
        return counter in range(first, rule.get("before", counter + 1), rule.get("every", 1))


class ReferenceEngine:
    """Model with the methods of Engine.

    ``run_operations()`` executes the rest of the program, and raises Continue or EndProgram.
    """

    def __init__(self, step, run_operations):
        self.step, self.run_operations = step, run_operations
        self.registered = []
        self.firings = Counter()
        self.state = SimpleNamespace(
            iteration=0, epoch=0, epoch_length=None, max_epochs=None, max_iters=None, output=None, batch=None,
            outcome=None,
        )  # fmt: skip
        # The stop requests.
        self.terminating = self.ending_epoch = self.interrupting = None
        self.is_running = self.is_suspended = self.was_loaded = False
        # True from STARTED until TEARDOWN.
        self.is_active = False
        # `batches` holds the remaining batches of the current pass over `data`.
        self.data = self.batches = None
        self.pass_count = 0
        # The number of batches of this pass whose step has finished.
        self.used = None
        self.in_epoch = False
        # The number of iterations of the current epoch.
        self.done = 0
        # True while an iteration is counted and its step has not finished.
        self.is_step_pending = False
        # The position of a loaded state: iterations done, batches used, and the length of the data.
        self.position = None
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
        if self.is_active:
            self.data = data
            self.begin_pass()

    # Saving and loading

    def state_dict(self):
        state, pending = self.state, self.is_step_pending
        limit = "max_iters" if state.max_iters is not None else "max_epochs"
        done, used, length = self.position or (0, None, None)
        if self.position is None:
            used, length = self.used, self.data.length if self.data else None
        if self.in_epoch:
            done = self.done - pending
        return {
            "iteration": state.iteration - pending,
            "epoch_length": state.epoch_length or None,
            limit: getattr(state, limit),
            "position": (
                state.epoch - self.in_epoch,
                done if self.in_epoch or self.position else None,
                used,
                length,
            ),
        }

    def load_state_dict(self, saved):
        state = self.state
        state.iteration, state.epoch_length = saved["iteration"], saved["epoch_length"]
        state.max_epochs, state.max_iters = saved.get("max_epochs"), saved.get("max_iters")
        state.epoch, *position = saved["position"]
        self.position = tuple(position)
        self.in_epoch = self.is_step_pending = self.is_suspended = self.is_active = False
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
            raise Continue
        self.is_suspended = False
        self.terminating = self.ending_epoch = self.interrupting = None  # E-094
        self.data, self.batches, self.used = data, None, None
        self.execute_run()
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
        self.position = None
        self.firings.clear()

    def resume(self):
        if self.position is not None:
            self.done = self.position[0] or 0
        elif self.state.outcome == "FAILED" and not self.terminating:  # E-158
            self.done = self.done % self.state.epoch_length if self.state.epoch_length else 0
        else:  # E-134
            self.done = 0
        self.in_epoch = self.is_step_pending = False

    def is_over(self, max_epochs, max_iters):
        """Return whether the limits are reached (E-092)."""
        state = self.state
        if state.epoch_length == 0:
            return True
        if max_iters is not None and state.iteration >= max_iters:
            return True
        if max_epochs is None:
            return False
        by_iterations = state.epoch_length is not None and state.iteration >= state.epoch_length * max_epochs
        return by_iterations or state.epoch >= max_epochs

    def execute_run(self):
        self.is_running = self.is_active = True
        error_to_raise = None
        try:
            outcome = self.execute_epochs()
        except Control:
            raise
        except BaseException as error:
            outcome, error_to_raise = (
                "FAILED",
                self.handle_exception(RuntimeError() if isinstance(error, StopIteration) else error),
            )
        self.state.outcome = outcome
        self.is_active = False
        for registration in self.due("TEARDOWN"):
            try:
                registration.function(self, *registration.arguments)
            except BaseException as error:
                self.state.outcome = "FAILED"
                error_to_raise = error_to_raise or error
        self.is_running = False
        if error_to_raise is not None:
            raise error_to_raise

    def handle_exception(self, error):
        """Call each EXCEPTION_RAISED handler once, and return the exception for run() to raise (E-155)."""
        self.state.outcome = "FAILED"
        is_suppressed, raised_errors = False, []
        for registration in self.due("EXCEPTION_RAISED"):
            try:
                if registration.function(self, error, *registration.arguments) is True:
                    is_suppressed = True
            except BaseException as raised:
                if raised is not error:
                    raised_errors.append(raised)
        if raised_errors:
            return raised_errors[0]
        return None if is_suppressed else error

    def execute_epochs(self):
        outcome = "COMPLETED"
        try:
            self.fire("STARTED")
            while self.has_epochs_left():
                self.execute_epoch()
        except EndRun:
            if self.terminating:
                outcome = "TERMINATED"
            self.fire_event("TERMINATE")
        if self.terminating != "skip":
            self.fire_event("COMPLETED")
        return outcome

    def has_epochs_left(self):
        state = self.state
        if self.position is not None and self.position[0] is not None:
            # The loaded state is within an epoch.
            within = state.max_iters == state.iteration and self.done != state.epoch_length
            return not within and (state.max_epochs is None or state.epoch < state.max_epochs)
        return not self.is_over(state.max_epochs, state.max_iters)

    def execute_epoch(self):
        self.state.epoch += 1
        self.in_epoch = True
        self.fire("EPOCH_STARTED")
        self.check_max_iters()
        ended_early = False
        try:
            self.execute_iterations()
        except EndEpoch:
            ended_early = True
            self.batches = self.used = None
        done, self.done, self.in_epoch = self.done, 0, False
        self.is_step_pending = False
        if self.position is not None:
            self.position = (None, *self.position[1:])
        skips = False
        if ended_early:
            self.fire("TERMINATE_SINGLE_EPOCH", iter_counter=done)
            skips, self.ending_epoch = self.ending_epoch == "skip", None
        if not skips:
            self.fire("EPOCH_COMPLETED")

    def execute_iterations(self):
        state = self.state
        while state.epoch_length is None or self.done < state.epoch_length:
            self.check_max_iters()
            if self.batches is None:
                self.begin_pass()
            state.batch = None
            if self.data is not None:
                self.fire("GET_BATCH_STARTED")
                self.check_max_iters()
            if not self.ensure_batch():
                return
            state.batch = self.take_batch()
            state.output = None
            if self.data is not None:
                self.fire("GET_BATCH_COMPLETED")
                self.check_max_iters()
            state.iteration += 1
            self.done += 1
            self.is_step_pending = True
            self.fire("ITERATION_STARTED")
            state.output = self.step(self, state.batch)
            self.is_step_pending = False
            if self.pass_count == self.pass_of_batch and self.used is not None:
                self.used += 1
            self.fire("ITERATION_COMPLETED")

    def check_max_iters(self):
        """End the run if max_iters is reached within an epoch (E-104)."""
        state = self.state
        if state.iteration == state.max_iters and self.done != state.epoch_length:
            raise EndRun

    def begin_pass(self):
        position, self.position = self.position, None
        self.pass_count += 1
        if self.data is None:
            self.batches, self.used = [], None
            return
        self.batches, self.used = self.data.iterate(), 0
        _, used, length = position or (None, None, None)
        if not used or used == length == self.data.length:
            return
        if length != self.data.length or self.data.is_one_shot:
            raise ValueError
        # Skipped batches are read, so their errors are raised.
        if -1 in self.batches[:used]:
            raise ScriptedError("data")
        self.batches, self.used = self.batches[used:], used

    def ensure_batch(self):
        """Return whether a batch is available, restarting the data if necessary (E-015, E-110, E-111)."""
        state = self.state
        if self.data is None or self.batches:
            return True
        if state.epoch_length is None:
            state.epoch_length = self.done
            if state.max_iters is not None:  # E-105
                state.max_epochs = math.ceil(state.max_iters / self.done) if self.done else state.epoch
            return False
        self.fire("DATALOADER_STOP_ITERATION")
        self.check_max_iters()
        self.begin_pass()
        if self.batches:
            return True
        self.warnings += 1
        if state.max_epochs is None and not self.done:
            self.terminate()
            raise EndRun
        return False

    def take_batch(self):
        self.pass_of_batch = self.pass_count
        if self.data is None:
            return None
        batch = self.batches.pop(0)
        if batch < 0:
            if self.data.is_one_shot:
                self.batches.clear()
            raise ScriptedError("data")
        return batch

    def fire(self, event, **extra):
        """Fire an event and handle stop requests (E-130 to E-138)."""
        self.fire_event(event, **extra)
        while self.terminating or self.ending_epoch or self.interrupting:
            if self.terminating:
                raise EndRun
            if self.ending_epoch and event in {"STARTED", "EPOCH_STARTED"}:
                raise RuntimeError
            if self.ending_epoch and event == "EPOCH_COMPLETED":
                self.ending_epoch = None
            if self.ending_epoch and event != "TERMINATE_SINGLE_EPOCH":
                raise EndEpoch
            if not self.interrupting:
                return
            self.fire_event("INTERRUPT")
            self.interrupting = None
            self.suspend()

    def suspend(self):
        self.state.outcome = "INTERRUPTED"
        self.is_running, self.is_suspended = False, True
        try:
            self.run_operations()
        except Continue:
            self.is_running, self.is_suspended = True, False
