"""Two loggers that are right, and many that are wrong in one way each."""

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
    """Appends a line for each scalar: as little as a logger can be."""

    def __init__(self, path, **options):
        super().__init__(**options)
        self.path = path

    def write_scalars(self, scalars, step, timestamp):
        with self.path.open("a", encoding="utf-8") as file:
            for name, value in scalars.items():
                print(json.dumps([name, step, value]), file=file)


class HeldOpen(Logger):
    """Holds its file open, or is given an open one; has all that a logger can have without numpy."""

    def __init__(self, path, stream=None, **options):
        super().__init__(**options)
        self.path = path
        self.stream = stream
        self.is_mine = stream is None

    def open_backend(self):
        if self.is_mine:
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
        if self.is_mine and self.stream is not None:
            self.stream.close()


# What is stored


class LosesTheLastBatch(JsonLines):
    """Writes ten records at a time, and never what is left."""

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
    """Holds back what it has until close()."""

    def close_backend(self, outcome):
        self.write()


class SortsByStep(WritesAtCloseOnly):
    """Stores in the order of the steps."""

    def flush_backend(self):
        self.rows.sort(key=lambda row: row[1])
        self.write()


class SharesItsFile(JsonLines):
    """Keeps its open file in the class."""

    file = None

    def open_backend(self):
        type(self).file = self.file or self.path.open("a", encoding="utf-8")

    def write_scalars(self, scalars, step, timestamp):
        for name, value in scalars.items():
            self.file.write(json.dumps([name, step, value]) + "\n")

    def close_backend(self, outcome):
        if self.file is not None:
            self.file.close()
        type(self).file = None


class DropsStepZero(JsonLines):
    """Takes step 0 for no step."""

    def write_scalars(self, scalars, step, timestamp):
        if step:
            super().write_scalars(scalars, step, timestamp)


class DropsZeros(JsonLines):
    """Takes the value 0.0 for no value."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars({name: value for name, value in scalars.items() if value}, step, timestamp)


class SkipsRepeats(JsonLines):
    """Stores only what has changed."""

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
    """Stores four digits."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars({name: round(value, 4) for name, value in scalars.items()}, step, timestamp)


class CountsItsOwnSteps(JsonLines):
    """Ignores the step that it is given."""

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


class SmoothsNames(JsonLines):
    """Makes an underscore of what it does not like in a name."""

    def write_scalars(self, scalars, step, timestamp):
        clean = {"".join(c if c.isalnum() or c in "/_" else "_" for c in n): v for n, v in scalars.items()}
        super().write_scalars(clean, step, timestamp)


class CutsNames(JsonLines):
    """Stores a hundred characters of a name."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars({name[:100]: value for name, value in scalars.items()}, step, timestamp)


class DropsNaN(JsonLines):
    """Leaves out what is not finite, in silence."""

    def write_scalars(self, scalars, step, timestamp):
        finite = {name: value for name, value in scalars.items() if abs(value) < float("inf")}
        super().write_scalars(finite, step, timestamp)


class MakesNaNZero(JsonLines):
    """Stores 0.0 for what is not a number."""

    def write_scalars(self, scalars, step, timestamp):
        super().write_scalars({n: 0.0 if math.isnan(v) else v for n, v in scalars.items()}, step, timestamp)


class TakesFlatParamsOnly(JsonLines):
    """Raises for nested parameters."""

    def write_params(self, params):
        sum(params.values())


# Backends that fail


class OpensInTheConstructor(JsonLines):
    """Makes its file before there is anything to write."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        path.open("a").close()


class WaitsInTheConstructor(JsonLines):
    """Waits for its backend before there is anything to write."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        time.sleep(1.1)


class NeedsItsBackendAtAttach(JsonLines):
    """Wants to know at attach whether the backend is there."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        self.ensure_open(timeout=1)
        return super().attach(engine, event_name, log_handler, *args, **kwargs)


class CatchesItsErrors(JsonLines):
    """Goes on in silence when it cannot write."""

    def write_scalars(self, scalars, step, timestamp):
        with contextlib.suppress(OSError):
            super().write_scalars(scalars, step, timestamp)


class TruncatesWhenOpened(HeldOpen):
    """Begins a new file whenever it opens it."""

    def open_backend(self):
        self.close_backend(None)
        self.stream = self.path.open("w", encoding="utf-8")


class RewritesWhenOpened(JsonLines):
    """Writes again what it has written when it is opened anew."""

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
    """Writes nothing more once a write has failed."""

    failed = False

    def write_scalars(self, scalars, step, timestamp):
        if not self.failed:
            try:
                super().write_scalars(scalars, step, timestamp)
            except OSError:
                self.failed = True
                raise


class ShrugsAtClose(JsonLines):
    """Makes close() of the object raise what the backend raised."""

    def close(self, outcome=None):
        super().close(outcome)
        if self._delivery._last_failure is not None:
            raise self._delivery._last_failure


class Blocks(JsonLines):
    """Writes on the thread that trains."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(handle, engine.add_event_handler(event_name, self.wait))

    def wait(self, engine):
        self.flush()


class SleepsALittle(JsonLines):
    """Takes five milliseconds of each iteration."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, engine.add_event_handler(event_name, lambda: time.sleep(0.005))
        )


class HidesThatNothingOpens(JsonLines):
    """Goes on in silence when its file cannot be opened."""

    def write_scalars(self, scalars, step, timestamp):
        try:
            file = self.path.open("a", encoding="utf-8")
        except OSError:
            return
        file.close()
        super().write_scalars(scalars, step, timestamp)


class WritesDirectly(JsonLines):
    """Calls its own sink from the handler, instead of queueing the record."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        direct = _Direct(self)
        return super().attach(engine, event_name, lambda e, _, name: log_handler(e, direct, name))


class _Direct:
    def __init__(self, logger):
        self.logger = logger

    def log_scalars(self, scalars, step):
        self.logger.write_scalars(scalars, step, 0.0)


class WaitsForEver(JsonLines):
    """Has no limit on how long a flush takes."""

    def flush(self, timeout=None):
        return super().flush(1e6)

    def _run_ended(self, engine):
        self.flush()


class IgnoresOnError(JsonLines):
    """Is never strict."""

    def __init__(self, path, *, on_error="warn", **options):
        super().__init__(path, **options)


class LiesAboutItsCounts(JsonLines):
    """Counts what is lost as sent."""

    @property
    def counts(self):
        counts = super().counts
        return counts._replace(sent=sum(counts), dropped=0, pending=0)


# Runs


class LogsTwiceOnResume(JsonLines):
    """Its state holds what it wrote, which is written again when it is loaded."""

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
    """Logs the output once more at the end of a run."""

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
    """Logs the output once more when a run is interrupted."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, super().attach(engine, Events.INTERRUPT, _AtIteration(log_handler))
        )


class ClosesAfterTheRun(JsonLines):
    """Is closed with the first run that ends."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        end = engine.add_event_handler(Events.TEARDOWN, lambda: self.close())
        return RemovableEventHandle.join(handle, end)


class SwallowsExceptions(JsonLines):
    """Notes that the run failed, and that it is fine."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: True)
        )


class LeavesARegistration(JsonLines):
    """Attaches two things, and its handle removes one."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        engine.add_event_handler(Events.COMPLETED, self.say)
        return super().attach(engine, event_name, log_handler, *args, **kwargs)

    def say(self):
        pass


class ReturnsNoHandle(JsonLines):
    """Attaches, and returns nothing."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        super().attach(engine, event_name, log_handler, *args, **kwargs)


class IgnoresTheEngine(JsonLines):
    """Knows one engine only."""

    engine = None

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        self.engine = self.engine or engine
        return super().attach(self.engine, event_name, log_handler, *args, **kwargs)


class NeedsTheRealEngine(JsonLines):
    """Uses what only Engine has."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        engine.set_data([0])
        return super().attach(engine, event_name, log_handler, *args, **kwargs)


class TakesSwappedArguments(JsonLines):
    """Takes the order of old, too."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        if isinstance(event_name, OutputHandler):
            event_name, log_handler = log_handler, event_name
        return super().attach(engine, event_name, log_handler, *args, **kwargs)


class RunsTooEarly(JsonLines):
    """Comes before the handlers whose values it logs."""

    phase = Phase.METRICS


class IsAPlainFunction(JsonLines):
    """Registers a function, which runs when it was attached."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        return engine.add_event_handler(event_name, lambda e: log_handler(e, self, event_name))


class MutatesTheOutput(JsonLines):
    """Takes out what it has logged."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        def clean(e, logger, name):
            log_handler(e, logger, name)
            if isinstance(e.state.output, dict):
                e.state.output.pop("loss")

        return super().attach(engine, event_name, clean)


class ClearsTheMetrics(JsonLines):
    """Clears the metrics that it has logged."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        def clean(e, logger, name):
            log_handler(e, logger, name)
            e.state.metrics = {}

        return super().attach(engine, event_name, clean)


class StopsTheRun(JsonLines):
    """Has had enough after a record."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        return RemovableEventHandle.join(
            handle, engine.add_event_handler(event_name, lambda e: e.terminate())
        )


class LogsAtItsOwnStep(JsonLines):
    """Logs an evaluator at the evaluator's epoch, which is always 1."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        own = _AtStepOf(engine)
        return super().attach(
            engine, event_name, lambda e, logger, name: log_handler(e, own.of(logger), name)
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


class KeepsTheOutcomeToItself(JsonLines):
    """Does not tell close() how the run ended."""

    def close(self, outcome=None):
        self._outcome = None
        super().close()


class CloseTakesNoOutcome(JsonLines):
    """Cannot be called as it is called."""

    def close_backend(self):
        pass


class ClosesWhatItBorrowed(HeldOpen):
    """Closes whatever it writes to."""

    def close_backend(self, outcome):
        if self.stream is not None:
            self.stream.close()


class FailsToCloseAfterAFailure(JsonLines):
    """Has a word for one outcome."""

    def close_backend(self, outcome):
        self.word = {None: "finished", RunOutcome.COMPLETED: "finished"}[outcome]


class ClosesOnlyAfterRuns(JsonLines):
    """Needs an outcome."""

    def close_backend(self, outcome):
        self.word = outcome.value


class IgnoresFilters(JsonLines):
    """Logs at each firing of an event."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        return super().attach(engine, getattr(event_name, "event", event_name), log_handler, *args, **kwargs)


class TakesNoFurtherArguments(JsonLines):
    """Knows three arguments of attach."""

    def attach(self, engine, event_name, log_handler):
        return super().attach(engine, event_name, log_handler)


class AttachesTheOutputTwice(JsonLines):
    """Adds an output handler of its own to the one that it is asked for."""

    def attach_output_handler(self, engine, event_name, *args, **kwargs):
        super().attach_output_handler(engine, event_name, *args, **kwargs)
        return super().attach_output_handler(engine, event_name, *args, **kwargs)


class SwallowsInItsBlock(JsonLines):
    """Its ``with`` block ends well whatever happened."""

    def __exit__(self, *error):
        super().__exit__(*error)
        return True


class ClosesAfterAFailure(JsonLines):
    """Takes a failed run for the end."""

    def attach(self, engine, event_name, log_handler, *args, **kwargs):
        handle = super().attach(engine, event_name, log_handler, *args, **kwargs)
        end = engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: self.close())
        return RemovableEventHandle.join(handle, end)


# Processes


class LogsOnEveryRank(JsonLines):
    """Decides for the user that all ranks log."""

    def __init__(self, path, *, all_ranks=False, **options):
        super().__init__(path, all_ranks=True, **options)


class IgnoresItsOptions(JsonLines):
    """Takes the options, and forgets them."""

    def __init__(self, path, **options):
        super().__init__(path)


class TakesNoOptions(JsonLines):
    """Has a constructor of its own."""

    def __init__(self, path):
        super().__init__(path)


class ForgetsItsBase(JsonLines):
    """Does not call the constructor of Logger."""

    def __init__(self, path, **options):
        self.path = path
        self.timeout = options.get("timeout", 10.0)


class IsNoLogger:
    """Has the methods of one, and is none."""

    def __init__(self, path, **options):
        self.path = path

    def attach(self, engine, event_name, log_handler):
        return engine.add_event_handler(event_name, lambda e: log_handler(e, self, event_name))

    def log_scalars(self, scalars, step, timestamp=None):
        JsonLines.write_scalars(self, scalars, step, timestamp)


class CannotBePickled(JsonLines):
    """Holds a lock from the start."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self.lock = threading.Lock()


class LosesItsPlaceInACopy(JsonLines):
    """Its copy does not know where to write."""

    def __getstate__(self):
        return {**super().__getstate__(), "path": None}


class Prints(JsonLines):
    """Talks about what it does."""

    def write_scalars(self, scalars, step, timestamp):
        print(step, scalars)
        super().write_scalars(scalars, step, timestamp)


class ConfiguresLogging(JsonLines):
    """Wants to be heard."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        logging.getLogger().setLevel(logging.DEBUG)


class CatchesSignals(JsonLines):
    """Wants to be told of the end."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        signal.signal(signal.SIGUSR1, lambda *_: self.flush())


class DrawsNumbers(JsonLines):
    """Names its run with the generator that the training uses."""

    def open_backend(self):
        self.run = random.random()


class ChangesTheFolder(JsonLines):
    """Goes where its file is."""

    def open_backend(self):
        os.chdir(self.path.parent)


class LeavesAThread(JsonLines):
    """Starts a thread that nobody ends, and that keeps the process alive."""

    def open_backend(self):
        threading.Thread(target=time.sleep, args=(1.0,), name="acme keep-alive", daemon=False).start()
