"""Log handler for metrics, outputs and state attributes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from glowplug.events import CallableEventWithFilter
from glowplug.exceptions import GlowplugWarning
from glowplug.loggers._flatten import Flattened, number_of, shortened
from glowplug.loggers._step import GlobalStep, checked_step, default_step
from glowplug.typing import EngineProtocol


class OutputHandler:
    """Log metrics, the output and other attributes of the engine's state.

    Args:
        tag: Prefix of all logged names, as in ``training/loss``. The empty string adds no prefix.
        metric_names: Names of the metrics to log from ``engine.state.metrics``; ``"all"`` logs every metric.
        output_transform: Function that is called with ``engine.state.output``. The function returns a dict of names and values,
            or a single value, which is logged as ``output``.
        global_step_transform: Function ``f(engine, event_name) -> int`` that returns the step. By default, the step is the
            counter of the event, such as ``iteration`` or ``epoch``. If the engine is an evaluator that runs in a trainer, the
            default step is the counter of the trainer's current event. At the evaluator's iteration events, however, the
            default step is the evaluator's iteration, counted over all its runs.
        state_attributes: Names of the attributes of ``engine.state`` that are logged.

    Raises:
        ValueError: If ``metric_names``, ``output_transform`` and ``state_attributes`` are all ``None``.
        TypeError: If an argument has the wrong type.

    Example:
        >>> from glowplug import Events
        >>> from glowplug.loggers import Logger
        >>> from glowplug.testing import FakeEngine
        >>> class Printer(Logger):
        ...     uses_spool = False
        ...
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> engine = FakeEngine()
        >>> with Printer() as printer:
        ...     handler = OutputHandler("validation", metric_names=["accuracy"])
        ...     handle = printer.attach(engine, Events.EPOCH_COMPLETED, handler)
        ...     engine = engine.fire(Events.EPOCH_COMPLETED, epoch=3, metrics={"accuracy": 0.75, "loss": 0.5})
        3 {'validation/accuracy': 0.75}
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
                "OutputHandler has nothing to log; pass metric_names=, output_transform= or state_attributes="
            )
        if not isinstance(tag, str):
            raise TypeError(f"OutputHandler: tag must be a string, got {tag!r}")
        if metric_names != "all":
            _check_names("metric_names", metric_names, ' or "all"')
        _check_names("state_attributes", state_attributes)
        for name, function in (
            ("output_transform", output_transform),
            ("global_step_transform", global_step_transform),
        ):
            if function is not None and not callable(function):
                raise TypeError(f"OutputHandler: {name} must be a function, got {function!r}")
        self.tag = tag
        self.metric_names = metric_names
        self.output_transform = output_transform
        self.global_step_transform = global_step_transform
        self.state_attributes = state_attributes
        self._warned: set[str] = set()

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Log one record with all scalars, and one record for each text."""
        scalars: dict[str, Any] = {}
        others: dict[str, Any] = {}
        prefix = f"{self.tag}/" if self.tag else ""
        for key, value in self._values(engine).items():
            name = f"{prefix}{key}"
            number = value if value.__class__ is float else number_of(value)
            if number is None:
                others[name] = value
            else:
                scalars[name] = number
        if self.global_step_transform is None:
            step = default_step(engine, event_name)
        else:
            step = checked_step(self.global_step_transform(engine, event_name), "global_step_transform")
        if others:
            flat = self._flatten(others, logger)
            scalars.update(flat.scalars)
            for name, text in flat.texts.items():
                logger.log_text(name, text, step)
        if scalars:
            logger.log_scalars(scalars, step)

    def _flatten(self, values: Mapping[str, Any], logger: Any) -> Flattened:
        """Flatten nested values, and warn about those that the logger cannot log."""
        flat = Flattened()
        for name, value in values.items():
            flat.add(name, value)
        if flat.texts and not logger.takes("log_text"):
            flat.unknown.update(flat.texts)
            flat.texts = {}
        for name, value in flat.unknown.items():
            self._warn_once(
                name,
                f"{name} is {shortened(value)}, which {type(logger).__name__} cannot log; the value is omitted",
            )
        return flat

    def _values(self, engine: EngineProtocol) -> Mapping[str, Any]:
        output: Mapping[str, Any] = {}
        if self.output_transform is not None:
            transformed = self.output_transform(engine.state.output)
            is_mapping = transformed.__class__ is dict or isinstance(transformed, Mapping)
            output = transformed if is_mapping else {"output": transformed}
            if self.metric_names is None and self.state_attributes is None:
                return output
        values: dict[str, Any] = {}
        if self.metric_names is not None:
            self._add_metrics(values, engine.state.metrics)
        values.update(output)
        for name in self.state_attributes or ():
            if hasattr(engine.state, name):
                values[name] = getattr(engine.state, name)
            else:
                self._warn_once(name, f"engine.state has no attribute {name!r} to log")
        return values

    def _add_metrics(self, values: dict[str, Any], metrics: Mapping[str, Any]) -> None:
        for name in metrics if self.metric_names == "all" else self.metric_names or ():
            if name in metrics:
                values[name] = metrics[name]
            else:
                self._warn_once(
                    name,
                    f"engine.state.metrics has no metric {name!r} to log; available: {', '.join(metrics) or 'none'}",
                )

    def _warn_once(self, name: str, message: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(f"OutputHandler({self.tag!r}): {message}", GlowplugWarning, stacklevel=2)

    def __repr__(self) -> str:
        return f"OutputHandler({self.tag!r})"


def _check_names(option: str, names: Any, alternative: str = "") -> None:
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if names is not None and not (is_list and all(isinstance(name, str) for name in names)):
        raise TypeError(f"OutputHandler: {option} must be a list of names{alternative}, got {names!r}")
