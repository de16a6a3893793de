"""Checks of a logger during a run: what it writes, when it writes, and how it affects the run and the process."""

from __future__ import annotations

import pickle
import sys
from typing import Any

from glowplug import Events, Phase, RemovableEventHandle, RunOutcome
from glowplug.engine import Engine
from glowplug.loggers import OutputHandler
from glowplug.testing import FakeEngine
from glowplug_testing.cases import LoggerCase
from glowplug_testing.checks import CheckFailed, CheckSkipped, require
from glowplug_testing.engine_play import play, registered, unchanged_state
from glowplug_testing.flaky_backend import FlakyBackend
from glowplug_testing.logger_trial import Row, Trial, attach, run_logging
from glowplug_testing.ranks import on_two_ranks
from glowplug_testing.surroundings import unchanged_process

ATTACH = "If you override attach(), call super().attach(engine, event_name, log_handler, ...)"


def works_on_fake_engine_and_engine(case: LoggerCase) -> None:
    """The logger stores the same records from a FakeEngine as from an Engine, and uses only members of EngineProtocol."""
    outputs = [0.5, 0.25, 0.125]
    for fake in (True, False):
        with Trial(case) as trial:
            logger = trial.make()
            engine: Any = FakeEngine() if fake else Engine(lambda _, batch: batch)
            attach(trial, logger, engine)
            if fake:
                play(engine, outputs, {}, epochs=1)
            else:
                engine.run(outputs)
            logger.close()
            logged = [(trial.name("loss"), step, value) for step, value in enumerate(outputs, 1)]
            trial.require_stored(logged, f"after a run of {type(engine).__name__}", ATTACH)


def attach_accepts_all_arguments(case: LoggerCase) -> None:
    """attach() accepts filtered events, lists of events, and further arguments for the log handler."""
    with Trial(case) as trial:
        logger = trial.make()
        engine = Engine(lambda _, batch: batch)
        logger.attach(
            engine,
            Events.ITERATION_COMPLETED(every=2),
            OutputHandler(trial.name("every2"), output_transform=lambda value: {"loss": value}),
        )
        logger.attach(
            engine, Events.STARTED | Events.COMPLETED, _log_number, trial.name("number"), number=3.0
        )
        logger.attach_output_handler(
            engine, Events.EPOCH_COMPLETED, trial.name("epochs"), state_attributes=["epoch"]
        )
        logger.attach_opt_params_handler(engine, Events.EPOCH_COMPLETED, _Optimizer(), tag=trial.tag)
        engine.run([1.0, 2.0, 3.0, 4.0])
        logger.close()
        logged = [
            (trial.name("number"), 0, 3.0),
            (trial.name("every2/loss"), 2, 2.0),
            (trial.name("every2/loss"), 4, 4.0),
            (trial.name("epochs/epoch"), 1, 1.0),
            (trial.name("lr/group_0"), 1, 0.25),
            (trial.name("number"), 1, 3.0),
        ]
        trial.require_stored(
            logged,
            "after attaching to a filtered event and to a list of events, with further arguments",
            ATTACH,
        )


def _log_number(engine: Any, logger: Any, _: Any, name: str, *, number: float) -> None:
    logger.log_scalars({name: number}, engine.state.epoch)


class _Optimizer:
    param_groups = ({"lr": 0.25},)


def scalars_are_stored_at_the_end_of_a_run(case: LoggerCase) -> None:
    """When run() returns, all records of the run can be read, even before close()."""
    with Trial(case) as trial:
        logger = trial.make()
        outputs = [0.5, 0.25, 0.125, 0.0625, 0.5]
        run_logging(trial, logger, outputs)
        logged = [(trial.name("loss"), step, value) for step, value in enumerate(outputs, 1)]
        trial.require_stored(
            logged,
            "after run()",
            "Define flush_backend(self) and write buffered records there; do not override attach()",
        )


def exceptions_reach_the_caller(case: LoggerCase) -> None:
    """Exceptions in a run reach the caller unchanged; earlier records are stored, and the outcome is FAILED."""
    with Trial(case) as trial:
        logger, error = trial.make(), ZeroDivisionError("in the step")

        def step(_: Any, batch: float) -> float:
            if batch < 0:
                raise error
            return batch

        engine = Engine(step)
        attach(trial, logger, engine)
        try:
            engine.run([0.5, 0.25, -1.0, 0.125])
        except ZeroDivisionError as raised:
            require(raised is error, f"the step raised {error!r} but run() raised {raised!r}")
        else:
            raise CheckFailed(
                "the step raised an exception but run() did not; a handler of EXCEPTION_RAISED must not return True, because that "
                "suppresses the exception"
            )
        require(
            engine.state.outcome is RunOutcome.FAILED,
            f"the outcome of a failed run must be FAILED, got {engine.state.outcome}",
        )
        logged = [(trial.name("loss"), 1, 0.5), (trial.name("loss"), 2, 0.25)]
        trial.require_stored(logged, "after an exception in the run", "Define flush_backend(self)")
        try:
            with logger:
                logged += trial.log(logger, [("after", 3, 1.0)])
                raise error
        except ZeroDivisionError as raised:
            require(
                raised is error, f"`with logger:` raised {raised!r} instead of the exception of its block"
            )
        else:
            raise CheckFailed(
                "`with logger:` suppressed an exception that was raised in its block; do not override __exit__()"
            )
        trial.require_stored(
            logged, "after an exception in a block `with logger:`", "Keep the logger open after a run"
        )


def close_receives_the_outcome(case: LoggerCase) -> None:
    """close_backend(outcome) is called once, with the outcome of the run."""

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    endings = {
        RunOutcome.COMPLETED: lambda _: None,
        RunOutcome.TERMINATED: Engine.terminate,
        RunOutcome.INTERRUPTED: Engine.interrupt,
        RunOutcome.FAILED: fail,
    }
    for outcome, ending in endings.items():
        with Trial(case) as trial:
            logger = trial.make()
            with FlakyBackend.watching(logger) as backend:
                engine = Engine(lambda _, batch: batch)
                attach(trial, logger, engine)
                engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), ending)
                try:
                    engine.run([0.5, 0.25, 0.125])
                except ZeroDivisionError:
                    require(
                        outcome is RunOutcome.FAILED, f"a run that should end as {outcome} raised an error"
                    )
                logger.close()
                received = [(*call.args, *call.kwargs.values()) for call in backend.calls_of("close_backend")]
            require(not trial.warnings, f"close_backend({outcome}) failed{trial.report()}")
            require(
                received == [(outcome,)],
                f"a run ended as {outcome}, but the calls of close_backend() had the arguments {received}; there must be one "
                f"call, with the outcome. {ATTACH}",
            )


def handle_removes_all(case: LoggerCase) -> None:
    """Calling remove() on the handle from attach() removes all registrations, so nothing more is logged."""
    for engine in (FakeEngine(), Engine(lambda _, batch: batch)):
        with Trial(case) as trial:
            logger = trial.make()
            before = registered(engine)
            handles = [
                attach(trial, logger, engine),
                logger.attach_output_handler(
                    engine, Events.EPOCH_COMPLETED | Events.COMPLETED, trial.tag, state_attributes=["epoch"]
                ),
            ]
            for handle in handles:
                require(
                    isinstance(handle, RemovableEventHandle),
                    f"attach() must return a RemovableEventHandle for everything that it added, got {handle!r}",
                )
                handle.remove()
                handle.remove()
            left = [each for each in registered(engine) if each not in before]
            require(
                not left,
                f"after remove(), {', '.join(left)} is still registered; return one handle for everything that attach() adds: "
                "RemovableEventHandle.join(super().attach(...), engine.add_event_handler(...))",
            )
            engine.state.output = 0.5
            engine.fire_event(Events.ITERATION_COMPLETED)
            logger.close()
            trial.require_stored([], "after remove()", ATTACH)


def old_argument_order_is_refused(case: LoggerCase) -> None:
    """attach(engine, log_handler, event), which is the argument order of old ignite versions, raises a TypeError."""
    with Trial(case) as trial:
        logger, fake = trial.make(), FakeEngine()
        handler = OutputHandler(trial.tag, output_transform=float)
        try:
            logger.attach(fake, handler, Events.ITERATION_COMPLETED)
        except TypeError:
            require(not registered(fake), "attach() with swapped arguments raised but left a registration")
            return
        except Exception as error:
            raise CheckFailed(
                "attach(engine, log_handler, event) must raise a TypeError because its arguments are swapped, but it raised "
                f"{type(error).__name__}. {ATTACH}"
            ) from error
        raise CheckFailed(
            "attach(engine, log_handler, event) must raise a TypeError because its arguments are swapped, but it raised no "
            f"exception. {ATTACH}"
        )


def logs_after_the_other_handlers(case: LoggerCase) -> None:
    """At each event, the logger runs after user handlers, even if attached first, because its phase is LOGGING."""
    with Trial(case) as trial:
        logger = trial.make()
        phase = getattr(logger, "phase", None)
        require(
            phase is Phase.LOGGING,
            f"phase must be glowplug.Phase.LOGGING, got {phase!r}; do not override phase",
        )

        def overwrite(engine: Any) -> None:
            engine.state.output = 0.75

        run_logging(
            trial,
            logger,
            [0.5],
            lambda engine: engine.add_event_handler(Events.ITERATION_COMPLETED, overwrite),
        )
        logger.close()
        logged = [(trial.name("loss"), 1, 0.75)]
        trial.require_stored(logged, "after a handler that was attached later changed the output", ATTACH)


def run_state_is_unchanged(case: LoggerCase) -> None:
    """The logger does not change the engine's output, batch or metrics, or the tensors in them."""
    values: dict[str, Any] = {"loss": 0.5, "parts": [1.0, 2.0], "deep": {"a": 1.5}}
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        values["tensor"] = torch.tensor(0.25, requires_grad=True)
        values["vector"] = torch.tensor([0.5, float("nan")])
    with Trial(case) as trial:
        logger, fake = trial.make(), FakeEngine()
        handler = OutputHandler(trial.tag, metric_names="all", output_transform=lambda output: output)
        logger.attach(fake, Events.ITERATION_COMPLETED, handler)
        state = fake.state
        state.output, state.batch = values, [1.0, [2.0]]
        state.metrics, state.iteration, state.epoch = {"accuracy": 0.5, "per_class": [0.25, 0.75]}, 1, 1
        with unchanged_state(fake, "output", "batch", "metrics", "iteration", "epoch"):
            fake.fire(Events.ITERATION_COMPLETED)
            logger.flush()
        logger.close()
        require(
            not (fake.terminated or fake.should_interrupt or fake.should_terminate_single_epoch),
            "the logger stopped the run; remove the call to terminate(), terminate_epoch() or interrupt()",
        )


def one_logger_serves_several_engines(case: LoggerCase) -> None:
    """A logger that is attached to two engines stores the records of both engines."""
    with Trial(case) as trial:
        logger = trial.make()
        logged = []
        engines = [Engine(lambda _, batch: batch) for _ in range(2)]
        for number, engine in enumerate(engines):
            tag = trial.name(f"engine{number}")
            logger.attach(
                engine, Events.ITERATION_COMPLETED, OutputHandler(tag, output_transform=lambda x: {"loss": x})
            )
        for number, engine in enumerate(engines):
            engine.run([number + 0.5, number + 0.25])
            logged += [(trial.name(f"engine{number}/loss"), step, number + 0.5 / step) for step in (1, 2)]
        logger.close()
        trial.require_stored(
            logged,
            "after two engines ran",
            "Do not close anything at the end of a run: the user closes the logger",
        )


def evaluator_logs_at_the_trainers_step(case: LoggerCase) -> None:
    """If a trainer's handler runs an evaluator, the evaluator's records have the trainer's epoch as their step."""
    with Trial(case) as trial:
        logger = trial.make()
        trainer, evaluator = Engine(lambda _, batch: batch), Engine(lambda _, batch: batch)
        logger.attach(
            evaluator,
            Events.COMPLETED,
            OutputHandler(trial.tag, output_transform=lambda value: {"loss": value}),
        )
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED, lambda engine: evaluator.run([0.5, 1.0 / engine.state.epoch])
        )
        trainer.run([0, 0], max_epochs=3)
        logger.close()
        logged = [(trial.name("loss"), epoch, 1.0 / epoch) for epoch in (1, 2, 3)]
        trial.require_stored(
            logged,
            "after an evaluator ran in each of three epochs",
            "Store the step passed to write_scalars()",
        )


def resumed_run_logs_each_step_once(case: LoggerCase) -> None:
    """If a run is resumed from engine.state_dict() with a new logger, each step is logged once."""
    outputs = [0.5, 0.25, 0.125, 1.0, 2.0, 4.0]
    with Trial(case) as trial:
        saved: list[dict[str, Any]] = []

        def stop(engine: Engine) -> None:
            engine.terminate()
            saved.append(pickle.loads(pickle.dumps(engine.state_dict())))  # noqa: S301 - data of this test

        first = trial.make()
        run_logging(
            trial,
            first,
            outputs,
            lambda engine: engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), stop),
        )
        first.close()
        second = trial.make()
        engine = run_logging(trial, second, outputs, lambda engine: engine.load_state_dict(saved[0]))
        second.close()
        require(
            engine.state.iteration == len(outputs),
            f"the resumed run ended at iteration {engine.state.iteration} instead of {len(outputs)}",
        )
        logged = [(trial.name("loss"), step, value) for step, value in enumerate(outputs, 1)]
        trial.require_stored(
            logged,
            "after a run was stopped at step 3 and resumed with a second logger",
            "Append to existing records, and do not write them again in open_backend() or load_state_dict()",
        )


def interrupted_run_logs_each_step_once(case: LoggerCase) -> None:
    """If a run is interrupted and later continued, each step is logged once."""
    outputs = [0.5, 0.25, 0.125, 1.0]
    with Trial(case) as trial:
        logger = trial.make()
        engine = run_logging(
            trial,
            logger,
            outputs,
            lambda engine: engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt),
        )
        engine.run()
        logger.close()
        logged = [(trial.name("loss"), step, value) for step, value in enumerate(outputs, 1)]
        trial.require_stored(
            logged,
            "after an interrupted run was continued",
            "Write each record once, when the write method receives it",
        )


def only_rank_zero_writes(case: LoggerCase) -> None:
    """If two ranks log, only rank 0 writes to the backend."""
    with Trial(case) as trial:

        def log_on(rank: int) -> None:
            logger = trial.make()
            run_logging(trial, logger, [float(rank), float(rank)])
            trial.log(logger, [("direct", 9, float(rank))])
            logger.close()

        on_two_ranks(log_on)
        logged = [(trial.name("loss"), 1, 0.0), (trial.name("loss"), 2, 0.0), (trial.name("direct"), 9, 0.0)]
        trial.require_stored(
            logged,
            "after rank 0 logged zeros and rank 1 ones",
            "Write to the backend only in write methods, because Logger calls them on rank 0 only; do not set all_ranks",
        )


def pickled_logger_works(case: LoggerCase) -> None:
    """The logger can be pickled before and after its first record; the copy writes to the same file or tracking run."""
    with Trial(case) as trial:
        logger = trial.make()
        if "<locals>" in type(logger).__qualname__:
            raise CheckSkipped(
                f"{type(logger).__name__} is defined inside a function, so it cannot be pickled; to run this check, define the "
                "class in a module"
            )
        logged: list[Row] = []
        for when in ("before its first record", "while it is in use"):
            copy = _pickled(logger, when)
            logged += trial.log(copy, [("copy", len(logged), 0.5)])
            copy.close()
            logged += trial.log(logger, [("original", len(logged), 0.5)])
            logger.flush()
        logger.close()
        trial.require_stored(
            logged,
            "after a logger and two copies of it logged",
            "Let the copy write to the same file or tracking run",
        )


def _pickled(logger: Any, when: str) -> Any:
    try:
        return pickle.loads(pickle.dumps(logger))  # noqa: S301 - data of this test
    except Exception as error:
        raise CheckFailed(
            f"{type(logger).__name__} cannot be pickled {when}. Open files and connections in open_backend(), which Logger also "
            "calls for the copy, or omit them from the pickled state: "
            "def __getstate__(self): return {**super().__getstate__(), '_file': None}"
        ) from error


def process_is_unchanged(case: LoggerCase) -> None:
    """The logger does not print, leave threads running, or change global state such as signal handlers or random generators."""
    with Trial(case) as trial, unchanged_process():
        logger = trial.make()
        run_logging(trial, logger, [0.5, 0.25])
        logger.close()


def borrowed_run_stays_open(case: LoggerCase) -> None:
    """close() does not close a tracking run, file or connection that the user passed to the logger."""
    if case.borrowed is None:
        raise CheckSkipped(
            "this check needs LoggerCase(borrowed=...); pass this argument if your logger accepts an open tracking run or file"
        )
    with Trial(case) as trial:
        logger, is_open = case.borrowed()
        require(
            is_open(),
            "LoggerCase.borrowed must return a logger with an open tracking run or file, and a function that returns True while "
            "this run or file is open",
        )
        run_logging(trial, logger, [0.5])
        logger.close()
        require(
            is_open(),
            "close() closed the tracking run or file that was passed to the logger; close only what the logger has opened",
        )


RUN_CHECKS = (
    works_on_fake_engine_and_engine,
    attach_accepts_all_arguments,
    scalars_are_stored_at_the_end_of_a_run,
    exceptions_reach_the_caller,
    close_receives_the_outcome,
    handle_removes_all,
    old_argument_order_is_refused,
    logs_after_the_other_handlers,
    run_state_is_unchanged,
    one_logger_serves_several_engines,
    evaluator_logs_at_the_trainers_step,
    resumed_run_logs_each_step_once,
    interrupted_run_logs_each_step_once,
    only_rank_zero_writes,
    pickled_logger_works,
    process_is_unchanged,
    borrowed_run_stays_open,
)
