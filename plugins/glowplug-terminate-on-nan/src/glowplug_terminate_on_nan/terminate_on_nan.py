"""The handler that stops a run when its output is not finite."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

from glowplug import Events, RemovableEventHandle
from glowplug.engine import check_function
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_terminate_on_nan.finite import (
    by_device,
    checkable,
    describe,
    first_non_finite_tensor,
    name_of,
    scan,
)
from glowplug_terminate_on_nan.late_check import LateChecks

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("glowplug_terminate_on_nan")

_Label = TypeVar("_Label")


def _identity(output: Any) -> Any:
    return output


def _checked_every(value: object) -> int:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"TerminateOnNan: model_every must be an integer of at least 1, got {value!r}")
    return int(value)


class TerminateOnNan:
    """Stop an engine when its output contains NaN or infinity.

    The handler checks numbers, numpy scalars, numpy arrays and dense tensors. Values nested in mappings, sequences, sets, named
    tuples and dataclasses are also checked. ``None``, text, sparse tensors and objects of unknown types are ignored. If a value
    is not finite, the Python logger ``glowplug_terminate_on_nan`` emits a warning with the iteration and the position of the
    value, or the name of the parameter.

    Tensors on an accelerator are checked there, and the result is read at the next call of the handler, so the handler never waits
    for the device. The run therefore ends one iteration later or, if the device is further behind, a few. :meth:`attach` also
    reads all results at the end of each epoch. Tensors on the CPU are checked at once.

    Under ``torch.distributed``, each rank checks its own output, and all ranks stop at the same iteration.

    Args:
        output_transform: Function that takes ``engine.state.output`` and returns the values to check. By default, the whole
            output is checked.
        model: Model whose parameters and gradients are checked too; ``None`` (the default) checks the output only.
        model_every: The model is checked at iterations that are divisible by this number. Defaults to 100.
        is_deferred: Whether to read the results at the next call. By default, this depends on the device of each tensor.

    Raises:
        TypeError: If ``output_transform`` is not callable, or is an ``async`` function or a generator function, or if ``model`` has
            no ``named_parameters()``.
        ValueError: If ``model_every`` is not an integer of at least 1.

    Example:
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: {"loss": batch})
        >>> handle = TerminateOnNan().attach(engine)
        >>> state = engine.run([0.5, float("nan"), 0.25])
        >>> state.iteration, state.outcome
        (2, <RunOutcome.TERMINATED: 'terminated'>)
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = _identity,
        *,
        model: torch.nn.Module | None = None,
        model_every: int = 100,
        is_deferred: bool | None = None,
    ) -> None:
        if not callable(output_transform):
            raise TypeError(
                f"TerminateOnNan: output_transform must be a function of the engine's output, got {output_transform!r}"
            )
        check_function(output_transform, f"TerminateOnNan: output_transform {output_transform!r}")
        if model is not None and not hasattr(model, "named_parameters"):
            raise TypeError(f"TerminateOnNan: model must be a torch.nn.Module, got {model!r}")
        self._output_transform = output_transform
        self._model = model
        self._model_every = _checked_every(model_every)
        self._is_deferred = is_deferred
        self._late = LateChecks()

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED
    ) -> RemovableEventHandle:
        """Check the output at an event.

        Args:
            engine: The engine to check and stop.
            event_name: Event at which the output is checked.

        Returns:
            A handle that detaches the handler.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> fake = FakeEngine()
            >>> with TerminateOnNan().attach(fake):
            ...     fake.fire(Events.ITERATION_COMPLETED, output=float("inf")).terminated
            True
        """
        with ExitStack() as undo:
            undo.enter_context(engine.add_event_handler(event_name, self))
            undo.enter_context(
                engine.add_event_handler(Events.EPOCH_COMPLETED | Events.TERMINATE, self.read_late_results)
            )
            return RemovableEventHandle(undo.pop_all().close)

    def __call__(self, engine: EngineProtocol) -> None:
        """Terminate the run if the output is not finite.

        Args:
            engine: The engine to check.
        """
        iteration = engine.state.iteration
        late = self._late.read(iteration)
        now = None if late is not None else self._check_now(engine)
        self._report(engine, late if now is None else (iteration, now))

    def read_late_results(self, engine: EngineProtocol) -> None:
        """Wait for the results that have not been read yet, and terminate the run if a value was not finite.

        Args:
            engine: The engine to stop.
        """
        late = self._late.read(engine.state.iteration + 1, wait=True)
        self._report(engine, late)

    def _report(self, engine: EngineProtocol, finding: tuple[int, str] | None) -> None:
        """Terminate the run if there is a finding."""
        if finding is not None:
            _log.warning("iteration %d: %s; the run is terminated", *finding)
            engine.terminate()

    def _check_now(self, engine: EngineProtocol) -> str | None:
        """Check what can be checked without waiting for an accelerator, and start the other checks."""
        found, tensors = scan(self._output_transform(engine.state.output))
        if found is not None:
            path, value = found
            return describe(name_of(path), value)
        cause = self._check_tensors(engine, tensors, name_of)
        if cause is None and self._model is not None and engine.state.iteration % self._model_every == 0:
            cause = self._check_tensors(engine, _model_tensors(self._model), str)
        return cause

    def _check_tensors(
        self,
        engine: EngineProtocol,
        tensors: Iterable[tuple[_Label, torch.Tensor]],
        named: Callable[[_Label], str],
    ) -> str | None:
        for group in by_device(tensors):
            is_on_cpu = group[0][1].device.type == "cpu"
            if not is_on_cpu if self._is_deferred is None else self._is_deferred:
                late = [(partial(_late_cause, named, label), tensor) for label, tensor in group]
                self._late.start(engine.state.iteration, late)
            elif (found := first_non_finite_tensor(group)) is not None:
                label, value = found
                return describe(named(label), value)
        return None


def _late_cause(named: Callable[[_Label], str], label: _Label) -> str:
    return f"{named(label)} is not finite"


def _model_tensors(model: torch.nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    """Yield the parameters and gradients of a model that can be checked, with a description."""
    for name, parameter in model.named_parameters():
        for what, tensor in ((f"parameter {name!r}", parameter), (f"gradient of {name!r}", parameter.grad)):
            part = None if tensor is None else checkable(tensor.detach())
            if part is not None:
                yield what, part
