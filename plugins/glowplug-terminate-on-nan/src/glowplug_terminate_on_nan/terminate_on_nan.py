"""The handler that stops a run when its output is not finite."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from glowplug import Events, RemovableEventHandle
from glowplug.distributed import agree_any
from glowplug.engine import check_function
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_terminate_on_nan.finite import describe, find_non_finite

_log = logging.getLogger("glowplug_terminate_on_nan")


def _identity(output: Any) -> Any:
    return output


class TerminateOnNan:
    """Handler that stops an engine when its output contains NaN or infinity.

    The handler checks numbers, numpy scalars, numpy arrays and dense tensors. Values nested in mappings, sequences, sets, named
    tuples and dataclasses are also checked. ``None``, text, sparse tensors and objects of unknown types are ignored. If a value
    is not finite, the Python logger ``glowplug_terminate_on_nan`` emits a warning with the iteration and the position of the
    value.

    Under ``torch.distributed``, each call of the handler is a collective operation, so all ranks stop at the same iteration.

    Args:
        output_transform: Function that takes ``engine.state.output`` and returns the values to check. By default, the whole
            output is checked.

    Raises:
        TypeError: If ``output_transform`` is not callable, or is an ``async`` function or a generator function.

    Example:
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: {"loss": batch})
        >>> handle = TerminateOnNan().attach(engine)
        >>> state = engine.run([0.5, float("nan"), 0.25])
        >>> state.iteration, state.outcome
        (2, <RunOutcome.TERMINATED: 'terminated'>)
    """

    def __init__(self, output_transform: Callable[[Any], Any] = _identity) -> None:
        if not callable(output_transform):
            raise TypeError(
                f"TerminateOnNan: output_transform must be a function of the engine's output, got {output_transform!r}"
            )
        check_function(output_transform, f"TerminateOnNan: output_transform {output_transform!r}")
        self._output_transform = output_transform

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED
    ) -> RemovableEventHandle:
        """Check the output at an event.

        Args:
            engine: The engine to check and stop.
            event_name: Event at which the output is checked. With ``Events.ITERATION_COMPLETED(every=10)``, the handler
                synchronizes with the device less often.

        Returns:
            A handle that detaches the handler.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> fake = FakeEngine()
            >>> with TerminateOnNan().attach(fake):
            ...     fake.fire(Events.ITERATION_COMPLETED, output=float("inf")).terminated
            True
        """
        return engine.add_event_handler(event_name, self)

    def __call__(self, engine: EngineProtocol) -> None:
        """Terminate the run if the output of at least one rank is not finite.

        Args:
            engine: The engine to check.
        """
        found = find_non_finite(self._output_transform(engine.state.output))
        if not agree_any(found is not None):
            return
        cause = "the output of another rank is not finite" if found is None else describe(*found)
        _log.warning("iteration %d: %s; the run is terminated", engine.state.iteration, cause)
        engine.terminate()
