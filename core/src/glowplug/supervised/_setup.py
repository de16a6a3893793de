"""Attach the handlers that most training runs need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from glowplug.distributed import rank
from glowplug.events import Events
from glowplug.handles import RemovableEventHandle
from glowplug.loggers import Logger, OptimizerParamsHandler, OutputHandler, global_step_from_engine
from glowplug.plugins import create_offer
from glowplug.supervised._checks import check_choice, check_count
from glowplug.typing import AnyEvent, EngineProtocol, Stateful

if TYPE_CHECKING:
    from glowplug.engine import Engine
    from glowplug_early_stopping import EarlyStopping
    from glowplug_model_checkpoint import ModelCheckpoint

__all__ = ["TrainingSetup", "setup_training"]


class TrainingSetup(NamedTuple):
    """What :func:`setup_training` attached.

    Args:
        latest: Handler that saves all objects.
        best: Handler that saves the model with the best score; ``None`` without ``best``.
        early_stopping: Handler that stops the run; ``None`` without ``patience``.
        handle: Handle that detaches all handlers.
    """

    latest: ModelCheckpoint
    best: ModelCheckpoint | None
    early_stopping: EarlyStopping | None
    handle: RemovableEventHandle


def setup_training(
    trainer: Engine,
    to_save: Mapping[str, Stateful],
    folder: str | Path,
    evaluator: Engine | None = None,
    validation_data: Iterable[Any] | None = None,
    *,
    event_name: AnyEvent = Events.EPOCH_COMPLETED,
    best: str | None = None,
    mode: Literal["max", "min"] = "max",
    to_save_best: Mapping[str, Stateful] | None = None,
    patience: int | None = None,
    loggers: Sequence[Logger] = (),
    log_every: int = 10,
    progress: bool = True,
    terminate_on_nan: bool = True,
    resume: bool = True,
    show: Callable[[str], object] = print,
) -> TrainingSetup:
    """Attach validation, checkpoints, early stopping, logging and a progress bar, and resume an earlier run.

    The handlers are created from the installed plugins. Rank 0 prints what was attached. If an error is raised, nothing remains
    attached.

    Args:
        trainer: The trainer.
        to_save: Objects to save, by name, such as ``{"model": model, "optimizer": optimizer}``. The trainer is added under the
            name ``"trainer"``.
        folder: Folder for the checkpoints.
        evaluator: Engine that evaluates the model. Requires ``validation_data``.
        validation_data: Data of the evaluator.
        event_name: Event of the trainer at which the evaluator runs and all objects are saved. Defaults to ``EPOCH_COMPLETED``.
        best: Name of the evaluator's metric that selects the best checkpoint.
        mode: ``"max"`` (default) if a larger value of the metric is better, ``"min"`` if a smaller value is better.
        to_save_best: Objects in the best checkpoint, by name; for example the averaged model, if the evaluator evaluates this one.
            Defaults to the object named ``"model"`` or, if there is no such object, all objects.
        patience: The run stops after this number of evaluations without an improvement of ``best``. By default, it does not stop.
        loggers: Loggers for the trainer's output, the optimizers' learning rates and the evaluator's metrics.
        log_every: Number of iterations between two records of the trainer's output and learning rates. Defaults to 10.
        progress: Whether to show a progress bar, and a line with the metrics for each epoch.
        terminate_on_nan: Whether the run stops when the trainer's output is NaN or infinite.
        resume: Whether to load the latest checkpoint in ``folder``, if there is one.
        show: Function that receives the description of what was attached. Defaults to ``print``.

    Raises:
        ValueError: If an option is out of range, if an option that ``best`` or ``patience`` requires is missing, or if ``to_save``
            contains another object under the name ``"trainer"``.
        PluginNotFoundError: If a plugin is not installed.

    Example:
        >>> import torch
        >>> from glowplug import create_supervised_trainer
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
        >>> to_save = {"model": model, "optimizer": optimizer}
        >>> setup_training(trainer, to_save, "checkpoints", patience=3)
        Traceback (most recent call last):
        ...
        ValueError: patience=3 requires best, the name of the metric that has to improve
    """
    _check(to_save, trainer, evaluator, validation_data, best, patience, to_save_best)
    check_choice("mode", mode, ("max", "min"))
    check_count("log_every", log_every)
    to_save = {**to_save, "trainer": trainer}
    if to_save_best is None:
        to_save_best = {"model": to_save["model"]} if "model" in to_save else to_save
    best_model = stopping = None
    attached = _Attached()
    with attached.detached_on_error:
        if terminate_on_nan:
            handler = attached.create("TerminateOnNan", "stops the run at a NaN or infinite output")
            attached.keep(handler.attach(trainer))
        if evaluator is not None:
            attached.describe("evaluator", f"runs at {event_name}")
            attached.keep(trainer.add_event_handler(event_name, lambda: evaluator.run(validation_data)))
        if evaluator is not None and best is not None:
            purpose = f"saves the checkpoint with the best {best} in {folder}"
            options = _best_model(to_save_best, evaluator, best, mode)
            best_model = attached.create("ModelCheckpoint", purpose, dirname=folder, **options)
            attached.keep(best_model.attach(trainer, event_name))
        if evaluator is not None and patience is not None:
            purpose = f"stops the run after {patience} evaluations without a better {best}"
            options = {"patience": patience, "score_function": best, "mode": mode, "trainer": trainer}
            stopping = attached.create("EarlyStopping", purpose, **options)
            attached.keep(stopping.attach(evaluator))
        for logger in loggers:
            attached.describe(type(logger).__name__, f"logs the training every {log_every} iterations")
            attached.keep(_attach_logger(logger, trainer, to_save, evaluator, log_every))
        if progress:
            options = {"epoch_lines": True, "best": best, "mode": mode}
            bar = attached.create("ProgressBar", "shows the iterations, and a line for each epoch", **options)
            attached.keep(bar.attach(trainer, output_transform=_scalars))
            if evaluator is not None:
                attached.keep(bar.attach(evaluator, name="validation"))
        purpose = f"saves all objects in {folder} at {event_name}"
        options = {"dirname": folder, "to_save": to_save, "resume": "auto" if resume else None}
        latest = attached.create("ModelCheckpoint", purpose, **options)
        attached.keep(latest.attach(trainer, event_name))
        handle = RemovableEventHandle(attached.detached_on_error.pop_all().close)
    if latest.resumed_from is not None:
        attached.describe("resumed from", str(latest.resumed_from))
    if rank() == 0:
        show(str(attached))
    return TrainingSetup(latest, best_model, stopping, handle)


class _Attached:
    """The handlers that have been attached.

    Attributes:
        detached_on_error: Context that detaches the handlers if an exception leaves it.
    """

    def __init__(self) -> None:
        self.detached_on_error = ExitStack()
        self._lines: list[tuple[str, str]] = []

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self._lines)
        return "\n".join(f"{name:{width}}  {purpose}" for name, purpose in self._lines)

    def create(self, name: str, purpose: str, **options: Any) -> Any:
        """Return a new handler, which is described by its purpose."""
        self.describe(name, purpose)
        return create_offer("handler", name, options)

    def describe(self, name: str, purpose: str) -> None:
        """Add a line to the description."""
        self._lines.append((name, purpose))

    def keep(self, handle: RemovableEventHandle) -> None:
        """Detach also what belongs to this handle."""
        self.detached_on_error.callback(handle.remove)


def _best_model(to_save: Mapping[str, Any], evaluator: Engine, best: str, mode: str) -> dict[str, Any]:
    """Return the options of a handler that keeps the objects with the best score."""

    def score(_: EngineProtocol) -> Any:
        if best not in evaluator.state.metrics:
            raise ValueError(
                f"setup_training: best={best!r} is not a metric of the evaluator, which has {sorted(evaluator.state.metrics)}"
            )
        return evaluator.state.metrics[best]

    return {
        "filename_prefix": "best",
        "filename_pattern": "{filename_prefix}_{name}_epoch={epoch}_step={global_step}_{score_name}={score}.{ext}",
        "global_step_transform": lambda trainer, _: trainer.state.iteration,
        "keep": create_offer("policy", "KeepBest", {"n": 1, "by": score, "mode": mode, "name": best}),
        # After a restart, the folder already contains the best checkpoint so far.
        "require_empty": False,
        "to_save": to_save,
    }


def _attach_logger(
    logger: Logger, trainer: Engine, to_save: Mapping[str, Any], evaluator: Engine | None, every: int
) -> RemovableEventHandle:
    output = OutputHandler("training", output_transform=_scalars)
    handles = [logger.attach(trainer, Events.ITERATION_COMPLETED(every=every), output)]
    for name, each in to_save.items():
        if hasattr(each, "param_groups"):
            rates = OptimizerParamsHandler(each, tag=None if name == "optimizer" else name)
            handles.append(logger.attach(trainer, Events.ITERATION_STARTED(every=every), rates))
    if evaluator is not None:
        iteration = global_step_from_engine(trainer, Events.ITERATION_COMPLETED)
        metrics = OutputHandler("validation", metric_names="all", global_step_transform=iteration)
        handles.append(logger.attach(evaluator, Events.COMPLETED, metrics))
    return RemovableEventHandle.join(*handles)


def _scalars(output: Any) -> dict[str, Any]:
    """Return the scalars of an output by name; a single value is the loss."""
    named = output if isinstance(output, Mapping) else {"loss": output}
    return {name: value for name, value in named.items() if _is_scalar(value)}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0


def _check(
    to_save: Mapping[str, Any],
    trainer: Engine,
    evaluator: Engine | None,
    validation_data: Iterable[Any] | None,
    best: str | None,
    patience: int | None,
    to_save_best: object,
) -> None:
    if patience is not None:
        check_count("patience", patience)
    if (evaluator is None) != (validation_data is None):
        missing = "evaluator" if evaluator is None else "validation_data"
        raise ValueError(
            f"setup_training requires evaluator and validation_data together; {missing} is missing"
        )
    if best is not None and evaluator is None:
        raise ValueError(f"best={best!r} is a metric of the evaluator; pass evaluator and validation_data")
    if to_save_best is not None and best is None:
        raise ValueError(
            "to_save_best requires best, the name of the metric that selects the best checkpoint"
        )
    if patience is not None and best is None:
        raise ValueError(f"patience={patience} requires best, the name of the metric that has to improve")
    if to_save.get("trainer", trainer) is not trainer:
        raise ValueError(
            "to_save contains another object under the name 'trainer', which is the name of the trainer"
        )
