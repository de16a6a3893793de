"""What a contract is told about the thing that it checks: how one is made, and how its doings are seen."""

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
    """A handler to be checked.

    Args:
        make: returns a new handler each time.
        attach: ``f(handler, engine) -> handle``; ``handler.attach(engine)`` by default, with the handler's own event.
        output: what the step of the engine returns; something that the handler can work with.
        metrics: what there is in ``engine.state.metrics`` at the end of each iteration and epoch.
        seconds_per_event: how long the handler may take at an event; 0.05 by default, more for one that writes files.
        plugin: the plugin module, as in ``"acme_shout._plugin"``: it is imported in a fresh interpreter.
        heavy: modules that this import must not bring along; all that is not of Python, glowplug or the plugin itself by
            default.

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
    """A logger to be checked.

    Args:
        make: ``f(**options)``, returns a new logger that writes to the *same* place each time; the options are those of
            ``glowplug.loggers.Logger``.
        read: returns every scalar that is stored in that place as ``(name, step, value)``; those of one name in the order
            in which they were stored.
        borrowed: for a logger that can write to a run (file, connection...) that somebody else has opened: returns
            such a logger, and a function that tells whether what it was given is still open.
        plugin: the plugin module, as in ``"acme_glowplug_logger._plugin"``: it is imported in a fresh interpreter.
        heavy: modules that this import must not bring along; all that is not of Python, glowplug or the plugin itself by
            default.

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
        outputs: Three or more engine outputs, as ``update`` takes them, with batches of different sizes.
        expected: The value over all outputs: a number, a tensor, or a mapping or sequence of these.
        joined: The same data as one output. By default tensors are joined along their first dimension and lists are
            concatenated, also inside tuples and mappings.
        tolerance: Largest difference between two equal values, relative to their size.
        reference: Another implementation of the metric: ``f(joined output) -> value``. Checks the value on random data;
            needs ``random_output``.
        random_output: ``f(generator) -> output``, returns one output with random data and a random number of examples,
            drawn from a ``torch.Generator``.
        plugin: The plugin module, as in ``"acme_metrics._plugin"``; it is imported in a fresh interpreter.
        heavy: Modules that this import must not load. Defaults to everything but Python, glowplug and the plugin.

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
                f"MetricCase checks random data with reference= and random_output=; {missing} is missing"
            )


@dataclass(frozen=True)
class SaveHandlerCase:
    """Describe a save handler to check.

    Args:
        make: returns a new save handler of the *same* location each time.
        folder: where the files are, for one that writes files; its ``dirname`` by default.
        plugin: the plugin module, as in ``"acme_s3._plugin"``: it is imported in a fresh interpreter.
        heavy: modules that this import must not bring along; all that is not of Python, glowplug or the plugin itself by
            default.

    Example:
        >>> SaveHandlerCase(make=lambda: AcmeSaver("acme://run")).folder is None
        True
    """

    make: Callable[[], Any]
    folder: Path | None = None
    plugin: str | None = None
    heavy: Sequence[str] = ()
