"""Descriptions of the objects that the contracts check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["HandlerCase", "LoggerCase", "MetricCase", "SaveHandlerCase"]


def _attach(handler: Any, engine: Any) -> Any:
    return handler.attach(engine)


@dataclass(frozen=True)
class HandlerCase:
    """A handler to check.

    Args:
        make: Function that returns a new handler on each call.
        attach: Function ``f(handler, engine) -> handle`` that attaches the handler. Defaults to ``handler.attach(engine)``,
            which uses the handler's default event.
        output: Output that the engine's step returns during the checks. Choose an output that the handler can process.
        metrics: Metrics by name. The checks write these metrics to ``engine.state.metrics`` at the end of each iteration and
            epoch.
        seconds_per_event: Time limit in seconds. For each event, the median time that the handler takes must not exceed this
            limit. Increase the limit for a handler that writes files.
        plugin: Name of the plugin module, such as ``"acme_shout._plugin"``. A check imports this module in a fresh
            interpreter. Defaults to the module ``_plugin`` of the handler's package.
        heavy: Names of other modules that the plugin module must not import, such as slow modules of your package. Do not list
            third-party libraries: the check already rejects all of them except glowplug, pluggy and packaging.

    Example:
        >>> class Shout:
        ...     def attach(self, engine):
        ...         return engine.add_event_handler("epoch_completed", print)
        >>> HandlerCase(make=Shout, metrics={"accuracy": 0.5}).seconds_per_event
        0.05
    """

    make: Callable[[], Any]
    attach: Callable[[Any, Any], Any] = _attach
    output: Any = 0.5
    metrics: Mapping[str, Any] = field(default_factory=dict)
    seconds_per_event: float = 0.05
    plugin: str | None = None
    heavy: Sequence[str] = ()


@dataclass(frozen=True)
class LoggerCase:
    """A logger to check.

    Args:
        make: Function ``f(**options)`` that returns a new logger. The logger must pass the options on to
            ``glowplug.loggers.Logger``. All loggers that the function returns must write to the *same* file, or to the same
            run of a tracking service such as MLflow. Storage in memory is not enough, because some checks log in another process.
        read: Function that returns every stored scalar as ``(name, step, value)``. The function must return scalars with the
            same name in the order in which they were stored.
        borrowed: Function ``f() -> (logger, is_open)``. Pass this function if the logger can write to a tracking run, file or
            connection that the user has opened. ``logger`` must write to an object that the user opened, and ``is_open()``
            must return whether this object is still open. ``None`` skips the check ``borrowed_run_stays_open``.
        plugin: Name of the plugin module, such as ``"acme_glowplug_logger._plugin"``. A check imports this module in a fresh
            interpreter. Defaults to the module ``_plugin`` of the logger's package.
        heavy: Names of other modules that the plugin module must not import, such as slow modules of your package. Do not list
            third-party libraries: the check already rejects all of them except glowplug, pluggy and packaging.

    Example:
        >>> import json, tempfile
        >>> from glowplug.loggers import Logger
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name) / "run.jsonl"
        >>> class JsonLines(Logger):
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         with path.open("a") as file:
        ...             for name, value in scalars.items():
        ...                 print(json.dumps([name, step, value]), file=file)
        >>> case = LoggerCase(
        ...     make=JsonLines,
        ...     read=lambda: [json.loads(line) for line in path.read_text().splitlines()],
        ... )
        >>> with case.make(timeout=5) as logger:
        ...     logger.log_scalars({"loss": 0.5}, 1)
        >>> case.read()
        [['loss', 1, 0.5]]
        >>> folder.cleanup()
    """

    make: Callable[..., Any]
    read: Callable[[], Iterable[tuple[str, int, Any]]]
    borrowed: Callable[[], tuple[Any, Callable[[], bool]]] | None = None
    plugin: str | None = None
    heavy: Sequence[str] = ()


@dataclass(frozen=True)
class MetricCase:
    """A metric to check.

    Args:
        make: Function that returns a new metric on each call.
        outputs: At least three batches of different sizes, each in the form that ``update`` accepts.
        expected: Expected value of the metric over all outputs. The value is a number, a tensor, or a mapping or sequence of
            numbers and tensors.
        joined: One output that contains the data of all ``outputs``. By default, the checks concatenate the outputs: lists end
            to end, and tensors along their first dimension. Lists and tensors inside tuples and mappings are concatenated in
            the same way.
        tolerance: Relative and absolute tolerance within which two values count as equal. Defaults to 1e-6.
        reference: Function ``f(output) -> value``, another implementation of the metric. A check compares the metric with
            this function on random data, so ``random_output`` is required as well. ``output`` contains the data of one or more
            random batches.
        random_output: Function ``f(generator) -> output`` that returns one output with random data and a random number of
            examples. Draw the data and the number of examples from ``generator``, which is a ``torch.Generator``.
        plugin: Name of the plugin module, such as ``"acme_metrics._plugin"``. A check imports this module in a fresh
            interpreter. Defaults to the module ``_plugin`` of the metric's package.
        heavy: Names of other modules that the plugin module must not import, such as slow modules of your package. Do not list
            third-party libraries: the check already rejects all of them except glowplug, pluggy and packaging.

    Raises:
        TypeError: If only one of ``reference`` and ``random_output`` is given.

    Example:
        >>> import torch
        >>> from glowplug import Metric, NotComputableError, sync_all_reduce
        >>> class Count(Metric):
        ...     _state_dict_all_req_keys = ("_count",)
        ...
        ...     def reset(self):
        ...         self._count = 0
        ...
        ...     def update(self, output):
        ...         self._count += len(output)
        ...
        ...     @sync_all_reduce("_count")
        ...     def compute(self):
        ...         if self._count == 0:
        ...             raise NotComputableError("Count needs data")
        ...         return self._count
        >>> batches = [torch.ones(2), torch.ones(1), torch.ones(3)]
        >>> case = MetricCase(
        ...     make=Count,
        ...     outputs=batches,
        ...     expected=6,
        ...     reference=len,
        ...     random_output=lambda generator: torch.rand(4, generator=generator),
        ... )
        >>> case.reference(torch.cat(case.outputs))
        6
    """

    make: Callable[[], Any]
    outputs: Sequence[Any]
    expected: Any
    joined: Any = None
    tolerance: float = 1e-6
    plugin: str | None = None
    heavy: Sequence[str] = ()
    reference: Callable[[Any], Any] | None = None
    random_output: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if (self.reference is None) is not (self.random_output is None):
            missing = "reference" if self.reference is None else "random_output"
            raise TypeError(
                "MetricCase needs both reference= and random_output= to compare the metric with a reference on random data; "
                f"also pass {missing}=, or pass neither argument"
            )


@dataclass(frozen=True)
class SaveHandlerCase:
    """A save handler to check.

    Args:
        make: Function that returns a new save handler on each call. All these save handlers must use the *same* location.
        folder: Folder to which the save handler writes its files. Defaults to the attribute ``dirname`` of the save handler.
            Omit ``folder`` if the save handler does not write files.
        seconds_between_saves: Time between two saves, in seconds, after which the location can tell which of the checkpoints is
            older. Object stores often record whole seconds only.
        plugin: Name of the plugin module, such as ``"acme_s3._plugin"``. A check imports this module in a fresh interpreter.
            Defaults to the module ``_plugin`` of the save handler's package.
        heavy: Names of other modules that the plugin module must not import, such as slow modules of your package. Do not list
            third-party libraries: the check already rejects all of them except glowplug, pluggy and packaging.

    Example:
        >>> SaveHandlerCase(make=lambda: AcmeSaver("acme://run")).folder is None
        True
    """

    make: Callable[[], Any]
    folder: Path | None = None
    plugin: str | None = None
    heavy: Sequence[str] = ()
    seconds_between_saves: float = 0.02
