"""The log handlers: each reads an engine and calls one method of a logger, whichever logger it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from glowplug.events import CallableEventWithFilter
from glowplug.loggers._flatten import Flattened, shortened
from glowplug.loggers._step import GlobalStep, checked_step, default_step
from glowplug.typing import EngineProtocol


class OutputHandler:
    """Logs metrics, the step's output and attributes of the state (L-020 to L-026).

    Args:
        tag: what all names begin with, as in ``training/loss``.
        metric_names: which of ``engine.state.metrics``; ``"all"`` for those that there are at the time.
        output_transform: ``f(engine.state.output)``, giving a dict of names and values, or one value named ``output``.
        global_step_transform: ``f(engine, event_name) -> int``. By default the event's counter, or that of the engine
            in whose handler this one runs, so an evaluator logs at its trainer's step.
        state_attributes: names of attributes of ``engine.state``.

    Raises:
        ValueError: none of the three sources is given.
        TypeError: ``metric_names`` is a string other than ``"all"``.

    Example:
        >>> OutputHandler("validation", metric_names=["accuracy"])
        OutputHandler('validation')
    """

    method = "log_scalars"

    def __init__(
        self,
        tag: str,
        metric_names: Sequence[str] | Literal["all"] | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        global_step_transform: GlobalStep | None = None,
        state_attributes: Sequence[str] | None = None,
    ) -> None:
        if metric_names is None and output_transform is None and state_attributes is None:
            raise ValueError(
                "OutputHandler needs something to log: give metric_names=, output_transform= or state_attributes="
            )
        for name, given in (("metric_names", metric_names), ("state_attributes", state_attributes)):
            listed = isinstance(given, Sequence) and not isinstance(given, str)
            if given is not None and not listed and (name, given) != ("metric_names", "all"):
                raise TypeError(
                    f"{name} must be a list of names"
                    + (' or "all"' if name == "metric_names" else "")
                    + f", got {given!r}"
                )
        for name, function in (
            ("output_transform", output_transform),
            ("global_step_transform", global_step_transform),
        ):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function, got {function!r}")
        self.tag = tag
        self.metric_names = metric_names
        self.output_transform = output_transform
        self.global_step_transform = global_step_transform
        self.state_attributes = state_attributes
        self._warned: set[str] = set()

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Make one record of all there is."""
        flat = Flattened()
        scalars, prefix = flat.scalars, f"{self.tag}/" if self.tag else ""
        for name, value in self._values(engine).items():
            if value.__class__ is float:  # nearly all there is, and this runs at every iteration
                scalars[f"{prefix}{name}"] = value
            else:
                flat.add(f"{prefix}{name}", value)
        step = self._step(engine, event_name)
        if flat.scalars:
            logger.log_scalars(flat.scalars, step)
        if flat.texts and logger.takes("log_text"):
            for name, text in flat.texts.items():
                logger.log_text(name, text, step)
        elif flat.texts:
            flat.unknown.update(flat.texts)
        for name, value in flat.unknown.items():
            self._warn_once(
                name, f"{name} is {shortened(value)}, which {type(logger).__name__} cannot log; left out"
            )

    def _values(self, engine: EngineProtocol) -> dict[str, Any]:
        metrics = engine.state.metrics
        if self.metric_names == "all":
            values = dict(metrics)
        else:
            values = {}
            for name in self.metric_names or ():
                if name in metrics:
                    values[name] = metrics[name]
                else:
                    self._warn_once(
                        name, f"there is no metric {name!r} to log; there are {', '.join(metrics) or 'none'}"
                    )
        if self.output_transform is not None:
            output = self.output_transform(engine.state.output)
            values.update(output if isinstance(output, Mapping) else {"output": output})
        for name in self.state_attributes or ():
            if hasattr(engine.state, name):
                values[name] = getattr(engine.state, name)
            else:
                self._warn_once(name, f"engine.state has no attribute {name!r} to log")
        return values

    def _step(self, engine: EngineProtocol, event_name: CallableEventWithFilter | str) -> int:
        if self.global_step_transform is None:
            return default_step(engine, event_name)
        return checked_step(self.global_step_transform(engine, event_name), "global_step_transform")

    def _warn_once(self, name: str, message: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(f"OutputHandler({self.tag!r}): {message}", UserWarning, stacklevel=2)

    def __repr__(self) -> str:
        return f"OutputHandler({self.tag!r})"
