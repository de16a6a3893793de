"""Setup of the usual log handlers in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from glowplug.events import Events
from glowplug.handles import RemovableEventHandle
from glowplug.loggers._logger import Logger
from glowplug.loggers._optimizer_handler import OptimizerParamsHandler
from glowplug.loggers._output_handler import OutputHandler
from glowplug.loggers._step import global_step_from_engine
from glowplug.typing import EngineProtocol

if TYPE_CHECKING:
    from torch.optim import Optimizer


def setup_logging(
    trainer: EngineProtocol,
    loggers: Logger | Iterable[Logger],
    *,
    optimizers: Optimizer | Mapping[str, Optimizer] | None = None,
    evaluators: EngineProtocol | Mapping[str, EngineProtocol] | None = None,
    every: int = 1,
) -> RemovableEventHandle:
    """Attach the usual log handlers to a trainer and its evaluators.

    - The trainer's output is logged as ``training/loss`` at every ``every``-th iteration. If the output is a mapping, its values
      are logged as ``training/<name>``. An output that is neither a number nor a mapping is not logged.
    - The trainer's metrics are logged as ``training/epoch/<name>`` after each epoch. The names differ from those of the output,
      because the step of these records is the epoch, not the iteration.
    - The learning rates are logged at every ``every``-th iteration.
    - The metrics of an evaluator are logged as ``<evaluator>/<name>`` after each run of the evaluator. The step of these
      records is the trainer's epoch.

    To attach log handlers one by one, use :class:`OutputHandler` and :class:`OptimizerParamsHandler`.

    Args:
        trainer: The engine that trains.
        loggers: A logger, or several loggers.
        optimizers: An optimizer whose learning rates are logged, or a mapping of names to optimizers. Each name becomes a prefix,
            as in ``<name>/lr/group_0``. Defaults to no optimizer.
        evaluators: An evaluator, whose metrics are logged as ``validation/<name>``, or a mapping of names to evaluators. The name
            ``training`` is reserved for the trainer. Defaults to no evaluator.
        every: Interval in iterations at which the output and the learning rates are logged. Defaults to 1.

    Returns:
        A handle that detaches all handlers that this call attached.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``every`` is not an integer of at least 1, if ``loggers`` is empty, or if the name of an evaluator is
            ``training``.

    Example:
        >>> from glowplug import Engine
        >>> class Printer(Logger):
        ...     uses_spool = False
        ...
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> trainer = Engine(lambda engine, batch: 0.5 * batch)
        >>> with Printer() as printer:
        ...     handle = setup_logging(trainer, printer, every=2)
        ...     _ = trainer.run([1, 2, 3, 4])
        2 {'training/loss': 1.0}
        4 {'training/loss': 2.0}
    """
    given = [loggers] if isinstance(loggers, Logger) else list(loggers)
    if not given:
        raise ValueError("setup_logging: loggers is empty; pass at least one logger")
    for logger in given:
        if not isinstance(logger, Logger):
            raise TypeError(f"setup_logging: each item of loggers must be a Logger, got {logger!r}")
    named_evaluators = _named(evaluators, "validation")
    for name, evaluator in named_evaluators:
        _check_evaluator(name, evaluator)
    iteration = Events.ITERATION_COMPLETED(every=every)
    handles: list[RemovableEventHandle] = []
    try:
        for logger in given:
            handles.append(
                logger.attach(trainer, iteration, OutputHandler("training", output_transform=_output))
            )
            # A metric and a value of the output may have the same name.
            epoch = OutputHandler("training/epoch", metric_names="all")
            handles.append(logger.attach(trainer, Events.EPOCH_COMPLETED, epoch))
            for name, optimizer in _named(optimizers, ""):
                handler = OptimizerParamsHandler(optimizer, tag=name or None)
                handles.append(logger.attach(trainer, iteration, handler))
            for name, evaluator in named_evaluators:
                step = global_step_from_engine(trainer, Events.EPOCH_COMPLETED)
                metrics = OutputHandler(name, metric_names="all", global_step_transform=step)
                handles.append(logger.attach(evaluator, Events.COMPLETED, metrics))
    except BaseException:
        RemovableEventHandle.join(*handles).remove()
        raise
    return RemovableEventHandle.join(*handles)


def _named(given: Any, name: str) -> Sequence[tuple[str, Any]]:
    if given is None:
        return ()
    return tuple(given.items()) if isinstance(given, Mapping) else ((name, given),)


def _check_evaluator(name: Any, evaluator: Any) -> None:
    if not callable(getattr(evaluator, "add_event_handler", None)):
        raise TypeError(
            f"setup_logging: evaluators must be an engine or a mapping of names to engines, got {evaluator!r}"
        )
    if isinstance(name, str) and name.split("/")[0] == "training":
        raise ValueError(
            f"setup_logging: the evaluator name {name!r} is reserved for the trainer; choose another name, such as "
            '"training_data"'
        )


def _output(output: Any) -> Mapping[str, Any]:
    """Return the values to log from the trainer's output."""
    if isinstance(output, Mapping):
        return output
    is_number = isinstance(output, Real) or getattr(output, "ndim", None) == 0
    return {"loss": output} if is_number else {}
