"""Checks of a logger in a run: it writes what the run says, when it should, and leaves run and process as they are."""

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
from glowplug_testing.engine_play import left_alone, play, registered
from glowplug_testing.flaky_backend import FlakyBackend
from glowplug_testing.logger_trial import Row, Trial, attach, run_logging
from glowplug_testing.ranks import on_two_ranks
from glowplug_testing.surroundings import left_as_it_was

ATTACH = (
    "Leave attach to Logger, or give super().attach(engine, event_name, log_handler, ...) what it asks for"
)


def works_on_fake_engine_and_engine(case: LoggerCase) -> None:
    """The same is stored from a FakeEngine as from an Engine: the logger depends on EngineProtocol only."""
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
    """Filtered events, lists of events, further arguments, and the handlers that are made on the way all work."""
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
            logged, "attached at a filtered event, at a list of events, and with further arguments", ATTACH
        )


def _log_number(engine: Any, logger: Any, _: Any, name: str, *, number: float) -> None:
    logger.log_scalars({name: number}, engine.state.epoch)


class _Optimizer:
    param_groups = ({"lr": 0.25},)


def scalars_are_stored_at_the_end_of_a_run(case: LoggerCase) -> None:
    """When run() returns everything that was logged in it can be read, without close()."""
    with Trial(case) as trial:
        logger = trial.make()
        outputs = [0.5, 0.25, 0.125, 0.0625, 0.5]
        run_logging(trial, logger, outputs)
        logged = [(trial.name("loss"), step, value) for step, value in enumerate(outputs, 1)]
        trial.require_stored(
            logged,
            "after run()",
            "Define flush_backend(self), which writes down what is held back; and leave attach to Logger",
        )


def exceptions_reach_the_caller(case: LoggerCase) -> None:
    """An exception in a run reaches the caller as it is; what was logged until then is stored, with outcome FAILED."""
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
            require(raised is error, f"the step raised {error!r}, and run() another one: {raised!r}")
        else:
            raise CheckFailed(
                "the step raised, and run() did not: no handler of EXCEPTION_RAISED may return True"
            )
        require(
            engine.state.outcome is RunOutcome.FAILED,
            f"the outcome of a failed run is {engine.state.outcome}",
        )
        logged = [(trial.name("loss"), 1, 0.5), (trial.name("loss"), 2, 0.25)]
        trial.require_stored(logged, "after an exception in the run", "Define flush_backend(self)")
        try:
            with logger:
                logged += trial.log(logger, [("after", 3, 1.0)])
                raise error
        except ZeroDivisionError as raised:
            require(
                raised is error, f"with logger: raised {raised!r} instead of what was raised in the block"
            )
        else:
            raise CheckFailed(
                "an exception in a block `with logger:` did not come out of it; leave __exit__ to Logger"
            )
        trial.require_stored(
            logged, "after an exception in a block `with logger:`", "Keep the logger open after a run"
        )


def close_receives_the_outcome(case: LoggerCase) -> None:
    """The method close_backend(outcome) is called once, with the outcome of the run."""

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
                    require(outcome is RunOutcome.FAILED, "run() raised though nothing failed")
                logger.close()
                told = [(*call.args, *call.kwargs.values()) for call in backend.calls_of("close_backend")]
            require(not trial.warnings, f"close_backend({outcome}) failed{trial.told()}")
            require(
                told == [(outcome,)],
                f"a run ended as {outcome}, and close_backend was called with {told}. {ATTACH}",
            )


def handle_removes_all(case: LoggerCase) -> None:
    """After remove() of the handle that attach returns nothing is registered, and nothing more is logged."""
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
                    f"attach returned {handle!r}; it must return the handle that takes back what it added",
                )
                handle.remove()
                handle.remove()
            left = [each for each in registered(engine) if each not in before]
            require(
                not left,
                f"after remove() there is still registered: {', '.join(left)}. Return one handle for all that attach adds: "
                "RemovableEventHandle.join(super().attach(...), engine.add_event_handler(...))",
            )
            engine.state.output = 0.5
            engine.fire_event(Events.ITERATION_COMPLETED)
            logger.close()
            trial.require_stored([], "after remove()", ATTACH)


def old_argument_order_is_refused(case: LoggerCase) -> None:
    """A call of attach(engine, log_handler, event), the order of old, raises a TypeError."""
    with Trial(case) as trial:
        logger, fake = trial.make(), FakeEngine()
        handler = OutputHandler(trial.tag, output_transform=float)
        try:
            logger.attach(fake, handler, Events.ITERATION_COMPLETED)
        except TypeError:
            require(
                not registered(fake), "attach with swapped arguments raised, and left something registered"
            )
            return
        except Exception as error:
            raise CheckFailed(
                f"attach with swapped arguments raised {type(error).__name__} instead of TypeError. {ATTACH}"
            ) from error
        raise CheckFailed(f"attach(engine, log_handler, event) was taken, though these are swapped. {ATTACH}")


def logs_after_the_other_handlers(case: LoggerCase) -> None:
    """The phase is LOGGING: at one event a logger sees what the other handlers have made, whichever was attached first."""
    with Trial(case) as trial:
        logger = trial.make()
        phase = getattr(logger, "phase", None)
        require(
            phase is Phase.LOGGING, f"phase is {phase!r}; leave it as Logger has it: glowplug.Phase.LOGGING"
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
        trial.require_stored(logged, "where a handler that was attached later changed the output", ATTACH)


def run_state_is_unchanged(case: LoggerCase) -> None:
    """Output, batch and metrics are the same objects with the same content after logging, tensors included."""
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
        with left_alone(fake, "output", "batch", "metrics", "iteration", "epoch"):
            fake.fire(Events.ITERATION_COMPLETED)
            logger.flush()
        logger.close()
        require(
            not (fake.terminated or fake.should_interrupt or fake.should_terminate_single_epoch),
            "the logger asked the engine to stop, which is not a logger's business",
        )


def one_logger_serves_several_engines(case: LoggerCase) -> None:
    """Attached to two engines that run one after the other, a logger stores what each of them logs."""
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
            "after two engines had run",
            "Do not close, or forget, anything at the end of a run: the user closes a logger",
        )


def evaluator_logs_at_the_trainers_step(case: LoggerCase) -> None:
    """What an evaluator logs that runs in a trainer's handler is stored at the trainer's epoch."""
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
            "after an evaluator had run in each of three epochs",
            "Store the step that write_scalars is given",
        )


def resumed_run_logs_each_step_once(case: LoggerCase) -> None:
    """A run that was stopped and goes on in another process, from engine.state_dict(), logs each step once."""
    outputs = [0.5, 0.25, 0.125, 1.0, 2.0, 4.0]
    with Trial(case) as trial:
        saved: list[dict[str, Any]] = []

        def stop(engine: Engine) -> None:
            engine.terminate()
            saved.append(pickle.loads(pickle.dumps(engine.state_dict())))  # noqa: S301 - our own, as through a file

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
            f"the resumed run ended at iteration {engine.state.iteration}",
        )
        logged = [(trial.name("loss"), step, value) for step, value in enumerate(outputs, 1)]
        trial.require_stored(
            logged,
            "after a run was stopped at step 3 and resumed with a second logger for the same place",
            "Append to what is there; write nothing in open_backend() or load_state_dict() that was written before",
        )


def interrupted_run_logs_each_step_once(case: LoggerCase) -> None:
    """A run that is interrupted and gone on with logs each step once."""
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
            logged, "after an interrupted run had gone on", "Write each record when it comes, and once"
        )


def only_rank_zero_writes(case: LoggerCase) -> None:
    """Of two ranks that log, the first alone writes."""
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
            "after two ranks had logged, rank 0 zeros and rank 1 ones",
            "Write in the write methods only, which are called on rank 0; do not set all_ranks yourself",
        )


def pickled_logger_works(case: LoggerCase) -> None:
    """A logger can be pickled, before its first record and after; the copy writes to the same place."""
    with Trial(case) as trial:
        logger = trial.make()
        if "<locals>" in type(logger).__qualname__:
            raise CheckSkipped(
                f"{type(logger).__name__} is defined in a function, from where nothing can be pickled"
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
            logged, "after a logger and two copies of it had logged", "Let the copy write to the same place"
        )


def _pickled(logger: Any, when: str) -> Any:
    try:
        return pickle.loads(pickle.dumps(logger))  # noqa: S301 - our own
    except Exception as error:
        raise CheckFailed(
            f"{type(logger).__name__} cannot be pickled {when}, as it must be for processes that are spawned. Open files and "
            "connections in open_backend(), which is called again in the copy: what it sets and cannot be pickled is omitted. Or "
            "omit it yourself: def __getstate__(self): return {**super().__getstate__(), '_file': None}"
        ) from error


def process_is_unchanged(case: LoggerCase) -> None:
    """Making, using and closing a logger leaves signals, logging, random numbers, output and threads as they were."""
    with Trial(case) as trial, left_as_it_was():
        logger = trial.make()
        run_logging(trial, logger, [0.5, 0.25])
        logger.close()


def borrowed_run_stays_open(case: LoggerCase) -> None:
    """A run, file or connection that the logger was given is still open after close()."""
    if case.borrowed is None:
        raise CheckSkipped(
            "LoggerCase(borrowed=...) would have it checked, for a logger that can be given an open run or file"
        )
    with Trial(case) as trial:
        logger, is_open = case.borrowed()
        require(
            is_open(),
            "LoggerCase.borrowed must return a logger on something that is open, and a function that says so",
        )
        run_logging(trial, logger, [0.5])
        logger.close()
        require(
            is_open(),
            "close() has closed what the logger was given; it may end only what it has opened itself",
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
