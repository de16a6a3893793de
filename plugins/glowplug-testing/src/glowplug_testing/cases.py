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
        make: Returns a new handler on each call.
        attach: ``f(handler, engine) -> handle`` attaches the handler. Defaults to ``handler.attach(engine)``, which uses the
            handler's default event.
        output: Output of the engine's step that the handler can process.
        metrics: Content of ``engine.state.metrics`` at the end of each iteration and epoch.
        seconds_per_event: Time limit of the handler per event, in seconds. Increase it for a handler that writes files.
        plugin: Plugin module to import in a fresh interpreter, such as ``"acme_shout._plugin"``. Defaults to the module
            ``_plugin`` of the handler's package.
        heavy: Further modules that ``plugin`` must not import, such as modules of your package. Third-party libraries need no
            entry: the check allows only glowplug, pluggy and packaging.

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
        make: ``f(**options)`` returns a new logger that passes the options on to ``glowplug.loggers.Logger``. All loggers
            write to the *same* file or run.
        read: Returns every stored scalar as ``(name, step, value)``. Scalars with the same name must be in the order in which
            they were stored.
        borrowed: ``f() -> (logger, is_open)``, for loggers that can write to a run, file or connection opened by the user.
            ``logger`` writes to such an object, and ``is_open()`` returns whether this object is still open.
        plugin: Plugin module to import in a fresh interpreter, such as ``"acme_glowplug_logger._plugin"``. Defaults to the
            module ``_plugin`` of the logger's package.
        heavy: Further modules that ``plugin`` must not import, such as modules of your package. Third-party libraries need no
            entry: the check allows only glowplug, pluggy and packaging.

    Example:
        >>> from glowplug.loggers import Logger
        >>> stored = []
        >>> class ListLogger(Logger):
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         stored.extend((name, step, value) for name, value in scalars.items())
        >>> case = LoggerCase(make=ListLogger, read=lambda: stored)
        >>> with case.make(timeout=5) as logger:
        ...     logger.log_scalars({"loss": 0.5}, 1)
        >>> case.read()
        [('loss', 1, 0.5)]
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
        make: Returns a new metric on each call.
        outputs: Three or more batches of different sizes, each in the form that ``update`` accepts.
        expected: The value over all outputs: a number, a tensor, or a mapping or sequence of these.
        joined: The data of all ``outputs`` as one output. By default, lists are concatenated, and tensors are concatenated
            along their first dimension. This includes lists and tensors inside tuples and mappings.
        tolerance: Relative and absolute tolerance within which two values count as equal.
        reference: Another implementation of the metric, ``f(joined output) -> value``. The checks compare the metric with
            the reference on random data, so ``random_output`` is required as well.
        random_output: ``f(generator) -> output`` returns one output with random data and a random number of examples. Draw
            both from ``generator``, a ``torch.Generator``.
        plugin: Plugin module to import in a fresh interpreter, such as ``"acme_metrics._plugin"``. Defaults to the module
            ``_plugin`` of the metric's package.
        heavy: Further modules that ``plugin`` must not import, such as modules of your package. Third-party libraries need no
            entry: the check allows only glowplug, pluggy and packaging.

    Raises:
        TypeError: If only one of ``reference`` and ``random_output`` is given.

    Example:
        >>> import torch
        >>> from glowplug import Metric
        >>> class Count(Metric):
        ...     def reset(self):
        ...         self.count = 0
        ...
        ...     def update(self, output):
        ...         self.count += len(output)
        ...
        ...     def compute(self):
        ...         return self.count
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
                f"MetricCase needs both reference= and random_output= to check random data; {missing} is missing"
            )


@dataclass(frozen=True)
class SaveHandlerCase:
    """A save handler to check.

    Args:
        make: Returns a new save handler on each call. All save handlers use the *same* location.
        folder: Folder to which the save handler writes its files. Defaults to the handler's ``dirname``. Omit it if the save
            handler does not write files.
        plugin: Plugin module to import in a fresh interpreter, such as ``"acme_s3._plugin"``. Defaults to the module
            ``_plugin`` of the save handler's package.
        heavy: Further modules that ``plugin`` must not import, such as modules of your package. Third-party libraries need no
            entry: the check allows only glowplug, pluggy and packaging.

    Example:
        >>> SaveHandlerCase(make=lambda: AcmeSaver("acme://run")).folder is None
        True
    """

    make: Callable[[], Any]
    folder: Path | None = None
    plugin: str | None = None
    heavy: Sequence[str] = ()
