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
        # A list cannot have another number of batches than its length.
        self.is_list = kind == "list"

    def items(self):
        """Return the batches of a list, whose order a saved state checks."""
        return tuple(self.batches) if self.is_list else None

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
        # The counter values of this run for which a filter with once= has accepted the event.
        self.passed = []

    def is_due(self, model, counter):
        """Return whether the filter accepts the counter (E-061 to E-065)."""
        rule = self.filter
        if "event_filter" in rule:
            return rule["event_filter"](model, counter)
        if "once" in rule:
            wanted = [rule["once"]] if isinstance(rule["once"], int) else rule["once"]
            if counter not in wanted or counter in self.passed:
                return False
            self.passed.append(counter)
            return True
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
        # `batches` holds the remaining batches of the current pass over `data`, `ahead` one that was fetched early.
        self.data = self.batches = None
        self.ahead = []
        self.pass_count = 0
        # The number of batches of this pass whose step has finished.
        self.used = None
        self.in_epoch = False
        # The number of iterations of the current epoch.
        self.done = 0
        # The length that the model expects from the data; any other epoch_length was given by the user.
        self.forecast = None
        # Whether epoch_length ends this epoch and restarts its data, instead of the end of the data.
        self.keeps_length = self.is_past_forecast = False
        # Whether the data ended with the last epoch.
        self.is_pass_over = False
        self.was_terminated = False
        # True while an iteration is counted and its step has not finished.
        self.is_step_pending = False
        # The position of a loaded state: iterations done, batches used, length of the data, and its items if it is a list.
        self.position = None
        self.warnings = 0
        self.has_warned = False

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
        # A filter is asked only when its handler's turn has come.
        return (r for r in ordered if r.event == event and r.is_due(self, counter))

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
            if self.done and self.in_epoch and not self.is_past_forecast:
                self.keeps_length = self.keeps_length or self.state.epoch_length is not None
            self.data = data
            self.begin_pass()

    # Saving and loading

    def state_dict(self):
        state = self.state
        limit = "max_iters" if state.max_iters is not None else "max_epochs"
        epoch, *position = self.current_position()
        iteration = state.iteration - self.is_step_pending
        has_begun = iteration or state.epoch or state.epoch_length is not None
        is_terminated = position[0] is None and bool(self.terminating or self.was_terminated)
        return {
            "iteration": iteration,
            "epoch_length": state.epoch_length or None,
            limit: getattr(state, limit),
            "position": (epoch, *position),
            "forecast": self.forecast if has_begun else None,
            "terminated": is_terminated if has_begun else False,
            **({"output": state.output} if has_begun else {}),
        }

    def current_position(self):
        """Return completed epochs, and iterations of the current one, batches used, length and items of the data."""
        done, *data = self.position or (None, self.used, None, None)
        if self.position is None and self.data:
            data = [self.used, self.data.length, self.data.items() if self.used else None]
        if self.in_epoch:
            done = self.done - self.is_step_pending
        return (self.state.epoch - self.in_epoch, done, *data)

    def load_state_dict(self, saved):
        state = self.state
        state.iteration, state.epoch_length = saved["iteration"], saved["epoch_length"]
        state.max_epochs, state.max_iters = saved.get("max_epochs"), saved.get("max_iters")
        state.epoch, *position = saved["position"]
        self.position = tuple(position)
        self.forecast, self.was_terminated = saved["forecast"], saved["terminated"]
        state.output = saved.get("output", state.output)
        self.in_epoch = self.is_step_pending = self.is_suspended = self.is_active = False
        self.was_loaded = True
        self.data = self.batches = self.used = state.outcome = None
        self.is_pass_over = False

    # Running

    def run(self, data=None, max_epochs=None, max_iters=None, epoch_length=None):
        state = self.state
        if self.is_running:  # E-102
            raise ValueError
        limits = self.check_limits(max_epochs, max_iters)
        has_none = state.max_epochs is None and state.max_iters is None
        is_open = self.in_epoch and state.outcome == "FAILED" and not self.terminating
        # A run of one epoch does not continue after an error.
        epoch = state.epoch - (is_open and limits != (1, None))
        is_new = has_none or (not self.is_suspended and not self.was_loaded and self.is_over(epoch, *limits))
        length = epoch_length
        if length is None and data is not None:
            length = data.length
        if is_new:
            if length is None and data is None:
                length = state.epoch_length
            self.check_length(data, length)
            self.reset()
            state.epoch_length = length
            self.forecast = None if epoch_length else length
            limits = (1, None) if (max_epochs, max_iters) == (None, None) else (max_epochs, max_iters)
        elif epoch_length not in (None, state.epoch_length) and (self.is_suspended or state.epoch_length):
            raise ValueError  # E-098
        elif not self.is_suspended:
            if state.epoch_length is None or (epoch_length is None and state.epoch_length == self.forecast):
                self.check_length(data, state.epoch_length if length is None else length)
                if state.epoch_length is None:
                    state.epoch_length = length
                self.forecast = state.epoch_length
            if epoch_length:
                self.forecast = None
            self.resume(data, is_open)
            by_iterations = limits[1] is not None
            if limits[by_iterations] > (state.max_iters if by_iterations else state.max_epochs):
                self.was_terminated = False
        state.max_epochs, state.max_iters = limits
        state.outcome = None
        self.was_loaded = False
        if self.is_suspended and not is_new:  # E-138, E-139
            raise Continue
        self.is_suspended = False
        self.terminating = self.ending_epoch = self.interrupting = None  # E-094
        self.data, self.batches, self.used, self.ahead = data, None, None, []
        self.is_pass_over = self.has_warned = False
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
        self.was_terminated = False
        self.firings.clear()
        for registration in self.registered:
            registration.passed.clear()

    def resume(self, data, is_open):
        if is_open:  # E-158
            state = self.state
            epoch, *position = self.current_position()
            state.iteration -= self.is_step_pending
            state.epoch = epoch
            self.position = tuple(position)
            if data is not None and self.refuses(data, *position[1:]):
                state.iteration -= position[0]
                self.position = None
        # E-134
        self.done = (self.position and self.position[0]) or 0
        self.in_epoch = self.is_step_pending = False

    def refuses(self, data, used, length, items):
        """Return whether data cannot continue at a position."""
        if not used or used == length:
            return False
        has_other_items = None not in (items, data.items()) and items != data.items()
        return length != data.length or data.is_one_shot or has_other_items

    def is_over(self, epoch, max_epochs, max_iters):
        """Return whether the limits are reached (E-092)."""
        state = self.state
        if state.epoch_length == 0:
            return True
        if max_iters is not None:
            return state.iteration >= max_iters
        return max_epochs is not None and epoch >= max_epochs

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
        is_cut_short = self.was_terminated
        try:
            self.fire("STARTED")
            while not is_cut_short and self.has_epochs_left():
                self.execute_epoch()
        except EndRun:
            is_cut_short = True
        outcome = "COMPLETED"
        if is_cut_short:
            if self.terminating or self.was_terminated:
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
        return not self.is_over(state.epoch, state.max_epochs, state.max_iters)

    def execute_epoch(self):
        self.state.epoch += 1
        self.in_epoch = True
        self.is_past_forecast = False
        self.fire("EPOCH_STARTED")
        self.check_max_iters()
        self.expect_length()
        ended_early = False
        try:
            self.execute_iterations()
        except EndEpoch:
            ended_early = True
            self.batches = self.used = None
            self.is_pass_over = False
        done, self.done, self.in_epoch = self.done, 0, False
        self.is_step_pending = False
        if not ended_early and not self.keeps_length and (done or self.state.epoch_length is None):
            self.forecast = self.state.epoch_length = done
        if self.position is not None:
            self.position = (None, *self.position[1:])
        skips = False
        if ended_early:
            self.fire("TERMINATE_SINGLE_EPOCH", iter_counter=done)
            skips, self.ending_epoch = self.ending_epoch == "skip", None
        if not skips:
            self.fire("EPOCH_COMPLETED")

    def expect_length(self):
        """Decide what ends the epoch: a given length, or the end of the data."""
        state = self.state
        self.keeps_length = self.data is None or state.epoch_length not in (None, self.forecast)
        if self.keeps_length or self.done:
            return
        if self.used:
            self.batches = self.used = None
        if self.data.length:
            self.forecast = state.epoch_length = self.data.length

    def execute_iterations(self):
        state = self.state
        is_complete = state.epoch_length is not None and self.done >= state.epoch_length
        if is_complete and self.keeps_length:
            return
        if self.batches is None and not self.is_pass_over:
            self.begin_pass()
        if is_complete and not self.has_more_data():
            return
        self.fire_get_batch_started()
        if self.is_pass_over:  # E-015
            self.fire("DATALOADER_STOP_ITERATION")
            self.check_max_iters()
        if self.is_pass_over:
            self.begin_pass()
        while self.ensure_batch():
            self.execute_iteration()
            if self.is_at_expected_end() and not self.has_more_iterations():
                return
            self.fire_get_batch_started()

    def execute_iteration(self):
        state = self.state
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

    def fire_get_batch_started(self):
        self.state.batch = None
        if self.data is not None:
            self.fire("GET_BATCH_STARTED")
            self.check_max_iters()

    def is_at_expected_end(self):
        state = self.state
        if state.max_iters is not None and state.iteration >= state.max_iters:
            return True
        is_open = state.epoch_length is None or self.is_past_forecast
        return not is_open and self.done >= state.epoch_length

    def has_more_iterations(self):
        """Return whether the epoch continues at its expected end."""
        self.check_max_iters()
        if not self.keeps_length:
            return self.has_more_data()
        if self.used and self.used == self.data.length and not self.batches:
            self.end_pass()
        return False

    def has_more_data(self):
        """Return whether the data goes beyond the expected length."""
        if self.data.is_list or not self.batches:
            self.end_pass()
            return False
        self.ahead = [self.take_batch()]
        if self.state.iteration == self.state.max_iters:
            raise EndRun
        self.is_past_forecast = True
        self.warn_about_length()
        return True

    def warn_about_length(self):
        if self.data.length is not None and not self.has_warned:
            self.has_warned = True
            self.warnings += 1

    def end_pass(self):
        self.batches, self.used, self.is_pass_over = None, 0, True

    def check_max_iters(self):
        """End the run if max_iters is reached within an epoch (E-104)."""
        state = self.state
        if state.iteration == state.max_iters and self.done != state.epoch_length:
            raise EndRun

    def begin_pass(self):
        position, self.position = self.position, None
        self.pass_count += 1
        self.ahead, self.is_pass_over = [], False
        if self.data is None:
            self.batches, self.used = [], None
            return
        _, used, length, items = position or (None, None, None, None)
        if used and used == length:
            # The pass of the saved state was complete.
            self.batches, self.used = [], used
            return
        self.batches, self.used = self.data.iterate(), 0
        if not used:
            return
        if self.refuses(self.data, used, length, items):
            raise ValueError
        # Skipped batches are read, so their errors are raised.
        if -1 in self.batches[:used]:
            raise ScriptedError("data")
        self.batches, self.used = self.batches[used:], used

    def ensure_batch(self):
        """Return whether a batch is available, restarting the data if necessary (E-114, E-110, E-111)."""
        state = self.state
        if self.data is None or self.batches or self.ahead:
            return True
        if self.keeps_length:
            self.fire("DATALOADER_STOP_ITERATION")
            self.check_max_iters()
            self.begin_pass()
            if self.batches:
                return True
        self.end_pass()
        if self.keeps_length or (not self.done and state.epoch_length):
            self.warnings += 1
            if state.max_iters is not None and not self.done:
                self.terminate()
                raise EndRun
        elif state.epoch_length is None:
            if state.max_iters is not None:  # E-105
                state.max_epochs = math.ceil(state.max_iters / self.done) if self.done else state.epoch
        elif not self.is_past_forecast:
            self.warn_about_length()
        return False

    def take_batch(self):
        self.pass_of_batch = self.pass_count
        if self.data is None:
            return None
        if self.ahead:
            return self.ahead.pop()
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
