"""What can be told of an offer as soon as it is imported, before anything is made of it: the start of each contract.

`glowplug.testing` has the rest, which needs an object to try.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from glowplug.events import EventEnum
from glowplug.hookspecs import Check, HandlerSpec, MetricSpec
from glowplug.phase import Phase
from glowplug.plugins._loading import Spec

__all__ = ["WRITE_ARGUMENTS", "inspect_offer"]

WRITE_ARGUMENTS = {
    "write_scalars": ("scalars", "step", "timestamp"),
    "write_scalars_batch": ("rows",),
    "write_histogram": ("name", "values", "step", "timestamp"),
    "write_text": ("name", "text", "step", "timestamp"),
    "write_image": ("name", "image", "step", "timestamp"),
    "write_figure": ("name", "figure", "step", "timestamp"),
    "write_params": ("params",),
    "write_artifact": ("path", "name"),
    "close_backend": ("outcome",),
}
"""Positional arguments of the methods that the author of a logger implements."""


def inspect_offer(spec: Spec, target: Any) -> list[Check]:
    """Look at what a plugin offers under a name.

    Args:
        spec: the offer.
        target: what its target is; a function that makes the object tells nothing about that.

    Returns:
        What is wrong, or one finding that all is well.

    Example:
        >>> class Shout:
        ...     phase = "logging"
        ...
        ...     def attach(self, engine, volume): ...
        >>> for finding in inspect_offer(HandlerSpec("Shout", "acme_shout.handler:Shout"), Shout):
        ...     print(finding.status, finding.message)
        warning attach(self, engine, volume) cannot be called as attach(engine)
        error its phase is 'logging', which is no glowplug.Phase and is passed over
    """
    found = list(_look(_kind(spec), spec, target))
    return found or [Check(name=spec.name, status="ok", message=spec.target)]


def _kind(spec: Spec) -> str:
    if isinstance(spec, HandlerSpec):
        return spec.kind
    return "metric" if isinstance(spec, MetricSpec) else "event"


def _look(kind: str, spec: Spec, target: Any) -> Iterator[Check]:
    name = spec.name
    if not isinstance(target, type):
        if kind == "event":
            yield _error(name, f"{spec.target} is no class", "make it a subclass of glowplug.EventEnum")
        return
    undefined = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
    if undefined:
        yield _error(name, f"{spec.target} leaves {undefined} undefined, so none can be made", "define it")
    yield from _LOOKS[kind](spec, target)
    phase = inspect.getattr_static(target, "phase", None)
    if phase is not None and not isinstance(phase, Phase) and not hasattr(phase, "__get__"):
        yield _error(
            name,
            f"its phase is {phase!r}, which is no glowplug.Phase and is passed over",
            "write phase = Phase.LOGGING, or another of its members",
        )


def _look_at_handler(spec: Spec, target: type) -> Iterator[Check]:
    if callable(getattr(target, "attach", None)):
        problem = _misfit(target, "attach", ("engine",))
        if problem:
            remedy = "give what comes after the engine a default, or engine.attach(handler) cannot be used"
            yield Check(name=spec.name, status="warning", message=problem, remedy=remedy)
    elif not _is_called(target):
        remedy = "add attach(engine), which registers it at its event and returns the handle"
        yield _error(spec.name, f"{spec.target} has no method attach, and cannot be called itself", remedy)


def _look_at_logger(spec: Spec, target: type) -> Iterator[Check]:
    # Who inherits from Logger has imported its module; to import it here would only make the others wait.
    loggers = sys.modules.get("glowplug.loggers._logger")
    if loggers is None or not issubclass(target, loggers.Logger):
        remedy = "derive it from glowplug.loggers.Logger, or offer it as another kind"
        missing = "" if hasattr(target, "attach") else ", and has no method attach"
        yield _error(spec.name, f"{spec.target} is no subclass of glowplug.loggers.Logger{missing}", remedy)
    elif not target.takes("log_scalars"):
        remedy = "define write_scalars(self, scalars, step, timestamp)"
        yield _error(
            spec.name, f"{spec.target} implements neither write_scalars nor write_scalars_batch", remedy
        )
    for method, arguments in WRITE_ARGUMENTS.items():
        problem = _misfit(target, method, arguments) if hasattr(target, method) else ""
        if problem:
            yield _error(spec.name, problem, f"write def {method}(self, {', '.join(arguments)})")


def _look_at_metric(spec: Spec, target: type) -> Iterator[Check]:
    missing = [m for m in ("attach", "reset", "update", "compute") if not callable(getattr(target, m, None))]
    metrics = sys.modules.get("glowplug.metrics._metric")
    remedy = "derive it from glowplug.Metric"
    if missing:
        yield _error(spec.name, f"{spec.target} has no method {', '.join(missing)}", remedy)
    elif metrics is None or not issubclass(target, metrics.Metric):
        yield _error(spec.name, f"{spec.target} is no subclass of glowplug.Metric", remedy)


def _look_at_event(spec: Spec, target: type) -> Iterator[Check]:
    if not issubclass(target, EventEnum):
        remedy = "derive it from glowplug.EventEnum"
        yield _error(spec.name, f"{spec.target} is no subclass of glowplug.EventEnum", remedy)


def _look_at_log_handler(spec: Spec, target: type) -> Iterator[Check]:
    yield from _look_at_call(spec, target, ("engine", "logger", "event_name"))


def _look_at_save_handler(spec: Spec, target: type) -> Iterator[Check]:
    if not _is_called(target) or _misfit(target, "__call__", ("checkpoint", "filename")):
        yield from _look_at_call(spec, target, ("checkpoint", "filename", "metadata"))


def _look_at_call(spec: Spec, target: type, arguments: tuple[str, ...]) -> Iterator[Check]:
    if not _is_called(target):
        problem = f"{spec.target} makes objects that cannot be called"
    else:
        problem = _misfit(target, "__call__", arguments)
    if problem:
        yield _error(spec.name, problem, f"write def __call__(self, {', '.join(arguments)})")


_LOOKS = {
    "handler": _look_at_handler,
    "logger": _look_at_logger,
    "log_handler": _look_at_log_handler,
    "save_handler": _look_at_save_handler,
    "metric": _look_at_metric,
    "event": _look_at_event,
}


def _error(name: str, message: str, remedy: str) -> Check:
    return Check(name=name, status="error", message=message, remedy=remedy)


def _is_called(target: type) -> bool:
    """Return whether objects of a class can be called; asked of the class itself, they all can."""
    return any("__call__" in vars(each) for each in target.__mro__)


def _misfit(target: type, method: str, arguments: tuple[str, ...]) -> str:
    """Say why a method of the objects of a class cannot be called like this; an empty text: it can."""
    function = getattr(target, method)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return f"{method} is async, and nobody would await it"
    bound = isinstance(inspect.getattr_static(target, method), (staticmethod, classmethod))
    try:
        signature = inspect.signature(function)
    except ValueError:
        return ""  # written in C: calling it will tell
    try:
        signature.bind(*() if bound else (None,), *arguments)
    except TypeError:
        return f"{method}{signature} cannot be called as {method}({', '.join(arguments)})"
    return ""
