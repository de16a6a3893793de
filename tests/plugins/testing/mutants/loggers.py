"""Two correct loggers, and mutants with one fault each."""

import contextlib
import json
import logging
import math
import os
import random
import signal
import threading
import time

from glowplug import Events, Phase, RemovableEventHandle, RunOutcome
from glowplug.loggers import Logger, OutputHandler


class JsonLines(Logger):
    """Minimal logger: appends one line per scalar."""

    def __init__(self, path, **options):
        super().__init__(**options)
        self.path = path

    def write_scalars(self, scalars, step, timestamp):
        with self.path.open("a", encoding="utf-8") as file:
            for name, value in scalars.items():
                print(json.dumps([name, step, value]), file=file)


class KeepsFileOpen(Logger):
    """Logger with all methods that need no numpy; opens a file or borrows one."""

    def __init__(self, path, stream=None, **options):
        super().__init__(**options)
        self.path = path
        self.stream = stream
        self.owns_stream = stream is None

    def open_backend(self):
        if self.owns_stream:
            self.close_backend(None)
            self.stream = self.path.open("a", encoding="utf-8")

    def write_scalars(self, scalars, step, timestamp):
        for name, value in scalars.items():
            self.stream.write(json.dumps([name, step, value]) + "\n")

    def write_params(self, params):
        json.dumps(params)

    def write_text(self, name, text, step, timestamp):
        self.path.with_suffix(".txt").write_text(text, encoding="utf-8")

    def flush_backend(self):
        self.stream.flush()

    def close_backend(self, outcome):
        if self.owns_stream and self.stream is not None:
            self.stream.close()


# What is stored


class LosesTheLastBatch(JsonLines):
    """Writes batches of ten records and never the rest."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.rows = []

    def write_scalars(self, scalars, step, timestamp):
        self.rows.append((scalars, step, timestamp))
        if len(self.rows) == 10:
            self.write()

    def write(self):
        rows, self.rows = self.rows, []
        for row in rows:
            JsonLines.write_scalars(self, *row)


class WritesAtCloseOnly(LosesTheLastBatch):
    """Buffers records until close()."""

    def close_backend(self, outcome):
        self.write()


class SortsByStep(WritesAtCloseOnly):
    """Sorts records by step."""

    def flush_backend(self):
        self.rows.sort(key=lambda row: row[1])
        self.write()


class SharesItsFile(JsonLines):
    """Stores its open file in the class."""

    file = None
    lock = threading.Lock()

    def open_backend(self):
        with self.lock:
            type(self).file = self.file or self.path.open("a", encoding="utf-8")

    def write_scalars(self, scalars, step, timestamp):
        for name, value in scalars.items():
            self.file.write(json.dumps([name, step, value]) + "\n")

    def close_backend(self, outcome):
        if self.file is not None:
            self.file.close()
        type(self).file = None


class DropsStepZero(JsonLines):
    """Treats step 0 as missing."""

    def write_scalars(self, scalars, step, timestamp):
        if step:
            super().write_scalars(scalars, step, timestamp)


class DropsZeros(JsonLines):
    """Treats the value 0.0 as missing."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars({name: value for name, value in scalars.items() if value}, step, timestamp)


class SkipsRepeats(JsonLines):
    """Stores changed values only."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.last = {}

    def write_scalars(self, scalars, step, timestamp):
        changed = {name: value for name, value in scalars.items() if self.last.get(name) != value}
        self.last.update(scalars)
        super().write_scalars(changed, step, timestamp)


class KeepsTheFirst(JsonLines):
    """Stores one scalar of each record."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars(dict(list(scalars.items())[:1]), step, timestamp)


class Rounds(JsonLines):
    """Rounds to four digits."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars({name: round(value, 4) for name, value in scalars.items()}, step, timestamp)


class CountsItsOwnSteps(JsonLines):
    """Ignores the step of the record."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.step = 0

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars(scalars, self.step, timestamp)
        self.step += 1


class WritesTwice(JsonLines):
    """Stores everything twice."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars(scalars, step, timestamp)
        super().write_scalars(scalars, step, timestamp)


class ReplacesCharacters(JsonLines):
    """Replaces special characters of names with underscores."""

    def write_scalars(self, scalars, step, timestamp):
        clean = {"".join(c if c.isalnum() or c in "/_" else "_" for c in n): v for n, v in scalars.items()}
        super().write_scalars(clean, step, timestamp)


class CutsNames(JsonLines):
    """Truncates names to a hundred characters."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars({name[:100]: value for name, value in scalars.items()}, step, timestamp)


class DropsNaN(JsonLines):
    """Omits non-finite values silently."""

    def write_scalars(self, scalars, step, timestamp):
        finite = {name: value for name, value in scalars.items() if abs(value) < float("inf")}
        super().write_scalars(finite, step, timestamp)


class MakesNaNZero(JsonLines):
    """Stores NaN as 0.0."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars({n: 0.0 if math.isnan(v) else v for n, v in scalars.items()}, step, timestamp)


class AcceptsFlatParamsOnly(JsonLines):
    """Raises for nested parameters."""

    def write_params(self, params):
        sum(params.values())


# Backends that fail


class OpensInTheConstructor(JsonLines):
    """Creates its file in the constructor."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        path.open("a").close()


class WaitsInTheConstructor(JsonLines):
    """Waits for its backend in the constructor."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        time.sleep(1.1)


class NeedsItsBackendAtAttach(JsonLines):
    """Opens the backend in attach()."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        self.ensure_open(timeout=1)
        return super().attach(engine, event_name, log_handler, *args, **kwargs)


class CatchesItsErrors(JsonLines):
    """Catches errors of its writes."""

    def write_scalars(self, scalars, step, timestamp):
        with contextlib.suppress(OSError):
            super().write_scalars(scalars, step, timestamp)


class TruncatesWhenOpened(KeepsFileOpen):
    """Truncates its file when opening it."""

    def open_backend(self):
        self.close_backend(None)
        self.stream = self.path.open("w", encoding="utf-8")


class RewritesWhenOpened(JsonLines):
    """Writes earlier records again when it is reopened."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.rows = []

    def open_backend(self):
        for row in self.rows:
            JsonLines.write_scalars(self, *row)

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars(scalars, step, timestamp)
        self.rows.append((scalars, step, timestamp))


class GivesUpAfterAnError(JsonLines):
    """Stops writing after a failed write."""

    failed = False

    def write_scalars(self, scalars, step, timestamp):
        if not self.failed:
            try:
                super().write_scalars(scalars, step, timestamp)
            except OSError:
                self.failed = True
                raise


class RaisesAtClose(JsonLines):
    """Raises the backend's exception in close()."""

    def close(self, outcome=None):
        super().close(outcome)
        if self._delivery._last_failure is not None:
            raise self._delivery._last_failure


class Blocks(JsonLines):
    """Flushes on the training thread."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(handle, engine.add_event_handler(event_name, self.wait))

    def wait(self, engine):
        self.flush()


class SleepsALittle(JsonLines):
    """Delays each iteration by five milliseconds."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, engine.add_event_handler(event_name, lambda: time.sleep(0.005))
        )


class IgnoresOpenErrors(JsonLines):
    """Ignores that its file cannot be opened."""

    def write_scalars(self, scalars, step, timestamp):
        try:
            file = self.path.open("a", encoding="utf-8")
        except OSError:
            return
        file.close()
        super().write_scalars(scalars, step, timestamp)


class WritesDirectly(JsonLines):
    """Calls its write method from the handler instead of queueing the record."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        direct = _Direct(self)
        return super().attach(engine, event_name, lambda e, _, name: log_handler(e, direct, name))


class _Direct:
    def __init__(self, logger):
        self.logger = logger

    def log_scalars(self, scalars, step):
        self.logger.write_scalars(scalars, step, 0.0)


class FlushHasNoTimeout(JsonLines):
    """Ignores the timeout in flush()."""

    def flush(self, timeout=None):
        return super().flush(1e6)

    def _run_ended(self, engine):
        self.flush()


class IgnoresOnError(JsonLines):
    """Ignores ``on_error``."""

    def __init__(self, path, *, on_error="warn", **options):
        super().__init__(path, **options)


class CountsLostAsSent(JsonLines):
    """Counts lost records as sent."""

    @property
    def counts(self):
        counts = super().counts
        return counts._replace(sent=sum(counts), dropped=0, pending=0)


# Runs


class LogsTwiceOnResume(JsonLines):
    """Saves its records in its state and writes them again when it is loaded."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.rows = []

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars(scalars, step, timestamp)
        self.rows.append([scalars, step])

    def state_dict(self):
        self.flush()
        return {"rows": list(self.rows)}

    def load_state_dict(self, state):
        for scalars, step in state["rows"]:
            self.log_scalars(scalars, step)


class LogsTheLastAgain(JsonLines):
    """Logs the last output again at the end of a run."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, super().attach(engine, Events.COMPLETED, _AtIteration(log_handler))
        )


class _AtIteration:
    def __init__(self, log_handler):
        self.log_handler = log_handler

    def __call__(self, engine, logger, event_name):
        self.log_handler(engine, logger, Events.ITERATION_COMPLETED)


class LogsAnInterruptedStepAgain(JsonLines):
    """Logs the last output again when a run is interrupted."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, super().attach(engine, Events.INTERRUPT, _AtIteration(log_handler))
        )


class ClosesAfterTheRun(JsonLines):
    """Closes itself at the end of the first run."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        end = engine.add_event_handler(Events.TEARDOWN, lambda: self.close())
        return RemovableEventHandle.join(handle, end)


class SwallowsExceptions(JsonLines):
    """Suppresses the exception of a failed run."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: True)
        )


class LeavesARegistration(JsonLines):
    """Registers two handlers and returns the handle of one."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        engine.add_event_handler(Events.COMPLETED, self.say)
        return super().attach(engine, event_name, log_handler, *args, **kwargs)

    def say(self):
        pass


class ReturnsNoHandle(JsonLines):
    """Returns no handle from attach()."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        super().attach(engine, event_name, log_handler, *args, **kwargs)


class IgnoresTheEngine(JsonLines):
    """Attaches to its first engine only."""

    engine = None

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        self.engine = self.engine or engine
        return super().attach(self.engine, event_name, log_handler, *args, **kwargs)


class NeedsTheRealEngine(JsonLines):
    """Uses a method that only Engine has."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        engine.set_data([0])
        return super().attach(engine, event_name, log_handler, *args, **kwargs)


class AcceptsSwappedArguments(JsonLines):
    """Also accepts the argument order of old ignite versions."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        if isinstance(event_name, OutputHandler):
            event_name, log_handler = log_handler, event_name
        return super().attach(engine, event_name, log_handler, *args, **kwargs)


class RunsTooEarly(JsonLines):
    """Runs before the handlers whose values it logs."""

    phase = Phase.METRICS


class IsAPlainFunction(JsonLines):
    """Registers a function, which runs in the phase USER."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        return engine.add_event_handler(event_name, lambda e: log_handler(e, self, event_name))


class MutatesTheOutput(JsonLines):
    """Removes logged values from the output."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        def clean(e, logger, name):
            log_handler(e, logger, name)
            if isinstance(e.state.output, dict):
                e.state.output.pop("loss")

        return super().attach(engine, event_name, clean)


class ClearsTheMetrics(JsonLines):
    """Clears the metrics after logging them."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        def clean(e, logger, name):
            log_handler(e, logger, name)
            e.state.metrics = {}

        return super().attach(engine, event_name, clean)


class StopsTheRun(JsonLines):
    """Terminates the run after a record."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, engine.add_event_handler(event_name, lambda e: e.terminate())
        )


class LogsAtItsOwnStep(JsonLines):
    """Logs an evaluator at the evaluator's epoch, which is always 1."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        stepped = _AtStepOf(engine)
        return super().attach(
            engine, event_name, lambda e, logger, name: log_handler(e, stepped.of(logger), name)
        )


class _AtStepOf:
    def __init__(self, engine):
        self.engine = engine

    def of(self, logger):
        self.logger = logger
        return self

    def log_scalars(self, scalars, step):
        state = self.engine.state
        at_end = self.engine.last_event_name is Events.COMPLETED
        self.logger.log_scalars(scalars, state.epoch if at_end else state.iteration)


class OmitsTheOutcome(JsonLines):
    """Ignores how the run ended."""

    def close(self, outcome=None):
        super().close(RunOutcome.COMPLETED)


class CloseTakesNoOutcome(JsonLines):
    """Has a close_backend() without a parameter."""

    def close_backend(self):
        pass


class ClosesWhatItBorrowed(KeepsFileOpen):
    """Closes a borrowed file."""

    def close_backend(self, outcome):
        if self.stream is not None:
            self.stream.close()


class FailsToCloseAfterAFailure(JsonLines):
    """Knows the outcome COMPLETED only."""

    def close_backend(self, outcome):
        self.status = {None: "finished", RunOutcome.COMPLETED: "finished"}[outcome]


class ClosesOnlyAfterRuns(JsonLines):
    """Does not accept an outcome of None."""

    def close_backend(self, outcome):
        self.status = outcome.value


class IgnoresFilters(JsonLines):
    """Ignores the filter of an event."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        return super().attach(engine, getattr(event_name, "event", event_name), log_handler, *args, **kwargs)


class AcceptsNoFurtherArguments(JsonLines):
    """Accepts only three arguments in attach()."""

    def attach(self, engine, event_name, log_handler):
        return super().attach(engine, event_name, log_handler)


class AttachesTheOutputTwice(JsonLines):
    """Attaches each output handler twice."""

    def attach_output_handler(self, engine, event_name, *args, **kwargs):
        super().attach_output_handler(engine, event_name, *args, **kwargs)
        return super().attach_output_handler(engine, event_name, *args, **kwargs)


class SwallowsInItsBlock(JsonLines):
    """Suppresses exceptions of its ``with`` block."""

    def __exit__(self, *error):
        super().__exit__(*error)
        return True


class ClosesAfterAFailure(JsonLines):
    """Closes itself after a failed run."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        end = engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: self.close())
        return RemovableEventHandle.join(handle, end)


# Processes


class LogsOnEveryRank(JsonLines):
    """Logs on all ranks, whatever the option says."""

    def __init__(self, path, *, all_ranks=False, **options):
        super().__init__(path, all_ranks=True, **options)


class IgnoresItsOptions(JsonLines):
    """Accepts options but does not pass them on."""

    def __init__(self, path, **options):
        super().__init__(path)


class AcceptsNoOptions(JsonLines):
    """Has a constructor without options."""

    def __init__(self, path):
        super().__init__(path)


class OmitsSuperInit(JsonLines):
    """Does not call the constructor of Logger."""

    def __init__(self, path, **options):
        self.path = path
        self.timeout = options.get("timeout", 10.0)


class IsNoLogger:
    """Has the methods of a logger but another base class."""

    def __init__(self, path, **options):
        self.path = path

    def attach(self, engine, event_name, log_handler):
        return engine.add_event_handler(event_name, lambda e: log_handler(e, self, event_name))

    def log_scalars(self, scalars, step, timestamp=None):
        JsonLines.write_scalars(self, scalars, step, timestamp)


class CannotBePickled(JsonLines):
    """Creates a lock in the constructor."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.lock = threading.Lock()


class LosesItsPathInACopy(JsonLines):
    """Omits its path when it is pickled."""

    def __getstate__(self):
        return {**super().__getstate__(), "path": None}


class Prints(JsonLines):
    """Prints each record."""

    def write_scalars(self, scalars, step, timestamp):
        print(step, scalars)
        super().write_scalars(scalars, step, timestamp)


class ConfiguresLogging(JsonLines):
    """Configures the root logger."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        logging.getLogger().setLevel(logging.DEBUG)


class CatchesSignals(JsonLines):
    """Installs a signal handler."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        signal.signal(signal.SIGUSR1, lambda *_: self.flush())


class DrawsNumbers(JsonLines):
    """Draws from the global random generator."""

    def open_backend(self):
        self.run = random.random()


class ChangesTheDirectory(JsonLines):
    """Changes the working directory."""

    def open_backend(self):
        os.chdir(self.path.parent)


class LeavesAThread(JsonLines):
    """Starts a thread that keeps the process alive."""

    def open_backend(self):
        threading.Thread(target=time.sleep, args=(1.0,), name="acme keep-alive", daemon=False).start()
