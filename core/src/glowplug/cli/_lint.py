"""Static checks of the class or function that a plugin offers.

These checks do not call the offered class or function; the test contracts in ``glowplug-testing`` check its behaviour.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from glowplug._finding import Finding
from glowplug.events import EventEnum
from glowplug.hookspecs import Offer
from glowplug.phase import Phase

__all__ = ["WRITE_ARGUMENTS", "inspect_offer"]

WRITE_ARGUMENTS = {
    "write_scalars": ("scalars", "step", "timestamp"),
    "write_scalars_batch": ("rows",),
    "write_histogram": ("name", "histogram", "step", "timestamp"),
    "write_text": ("name", "text", "step", "timestamp"),
    "write_image": ("name", "image", "step", "timestamp"),
    "write_figure": ("name", "figure", "step", "timestamp"),
    "write_params": ("params",),
    "write_artifact": ("path", "name"),
    "close_backend": ("outcome",),
}
"""The methods that a logger may implement, each with its positional arguments."""

_CALL_ARGUMENTS: dict[str, list[tuple[str, ...]]] = {
    "log_handler": [("engine", "logger", "event_name")],
    "filter": [("engine", "event")],
    "save_handler": [("checkpoint", "filename", "metadata"), ("checkpoint", "filename")],
}
"""Maps a kind of offer to the positional arguments of ``__call__``; one of the alternatives must fit."""

_SAVE_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "save": ("checkpoint", "filename", "metadata"),
    "load": ("filename",),
    "list": (),
    "remove": ("filename",),
    "locate": ("filename",),
}
"""The methods of ``glowplug.typing.SaveHandler``, each with its positional arguments."""


def inspect_offer(offer: Offer, target: Any) -> list[Finding]:
    """Check the target of an offer without calling the target.

    Args:
        offer: The offer.
        target: The imported target of the offer. The signature of a factory function is not checked.

    Returns:
        A finding for each fault. If there is no fault, one finding with status ``"ok"``.

    Example:
        >>> class Shout:
        ...     phase = "logging"
        ...
        ...     def attach(self, engine, volume): ...
        >>> for finding in inspect_offer(Offer("Shout", "acme_shout.handler:Shout"), Shout):
        ...     print(finding.status, finding.message)
        warning attach(self, engine, volume) cannot be called as attach(engine)
        error phase = 'logging' is ignored, because it is not a member of glowplug.Phase
    """
    return list(_check(offer, target)) or [Finding(offer.name, "ok", offer.target)]


def _check(offer: Offer, target: Any) -> Iterator[Finding]:
    name = offer.name
    if not isinstance(target, type):
        if offer.kind == "event":
            yield _error(name, f"{offer.target} is not a class", "offer a subclass of glowplug.EventEnum")
        return
    # A class that declares an abstract method itself is a base class for users.
    abstract: frozenset[str] = getattr(target, "__abstractmethods__", frozenset())
    undefined = ", ".join(sorted(abstract - vars(target).keys()))
    if undefined:
        yield _error(
            name,
            f"{offer.target} does not define {undefined}, so the class cannot be instantiated",
            f"define {undefined}",
        )
    yield from _CHECKS[offer.kind](offer, target)
    phase = inspect.getattr_static(target, "phase", None)
    if phase is not None and not isinstance(phase, Phase) and not hasattr(phase, "__get__"):
        yield _error(
            name,
            f"phase = {phase!r} is ignored, because it is not a member of glowplug.Phase",
            "set phase to a member of glowplug.Phase, such as Phase.LOGGING",
        )


def _check_handler(offer: Offer, target: type) -> Iterator[Finding]:
    if callable(getattr(target, "attach", None)):
        problem = _misfit(target, "attach", ("engine",))
        if problem:
            yield Finding(
                offer.name,
                "warning",
                problem,
                "give the other parameters defaults, so that engine.attach(handler) works",
            )
    elif not _is_called(target):
        yield _error(
            offer.name,
            f"{offer.target} has no method attach, and its instances are not callable",
            "add a method attach(engine) that registers the handler and returns the handle",
        )


def _check_logger(offer: Offer, target: type) -> Iterator[Finding]:
    from glowplug.loggers import Logger

    if not issubclass(target, Logger):
        missing = "" if hasattr(target, "attach") else " and has no method attach"
        yield _error(
            offer.name,
            f"{offer.target} is not a subclass of glowplug.loggers.Logger{missing}",
            "derive the class from glowplug.loggers.Logger, or give the offer another kind, such as kind='handler'",
        )
    elif not target.takes("log_scalars"):
        yield _error(
            offer.name,
            f"{offer.target} implements neither write_scalars nor write_scalars_batch",
            "define write_scalars(self, scalars, step, timestamp)",
        )
    for method, arguments in WRITE_ARGUMENTS.items():
        problem = _misfit(target, method, arguments) if hasattr(target, method) else ""
        if problem:
            yield _error(offer.name, problem, f"write def {method}(self, {', '.join(arguments)})")


def _check_metric(offer: Offer, target: type) -> Iterator[Finding]:
    missing = [m for m in ("attach", "reset", "update", "compute") if not callable(getattr(target, m, None))]
    remedy = "derive the class from glowplug.Metric"
    if missing:
        yield _error(offer.name, f"{offer.target} does not define {', '.join(missing)}", remedy)
        return
    # Metric imports torch: if torch is not imported, no subclass of Metric exists.
    if "torch" in sys.modules:
        from glowplug.metrics import Metric

        if issubclass(target, Metric):
            return
    yield _error(offer.name, f"{offer.target} is not a subclass of glowplug.Metric", remedy)


def _check_event(offer: Offer, target: type) -> Iterator[Finding]:
    if not issubclass(target, EventEnum):
        yield _error(
            offer.name,
            f"{offer.target} is not a subclass of glowplug.EventEnum",
            "derive the class from glowplug.EventEnum",
        )


def _check_call(offer: Offer, target: type) -> Iterator[Finding]:
    signatures = _CALL_ARGUMENTS[offer.kind]
    if _is_called(target):
        problems = [_misfit(target, "__call__", arguments) for arguments in signatures]
    else:
        problems = [f"instances of {offer.target} are not callable"]
    if all(problems):
        yield _error(offer.name, problems[0], f"write def __call__(self, {', '.join(signatures[0])})")


def _check_save_handler(offer: Offer, target: type) -> Iterator[Finding]:
    if not callable(getattr(target, "save", None)):
        if _is_called(target):
            yield from _check_call(offer, target)
            return
        yield _error(
            offer.name,
            f"{offer.target} has no method save, and its instances are not callable",
            "define the methods of glowplug.typing.SaveHandler",
        )
        return
    missing = [method for method in _SAVE_ARGUMENTS if not callable(getattr(target, method, None))]
    if missing:
        yield _error(
            offer.name,
            f"{offer.target} does not define {', '.join(missing)}",
            "define the methods of glowplug.typing.SaveHandler",
        )
    for method, arguments in _SAVE_ARGUMENTS.items():
        problem = "" if method in missing else _misfit(target, method, arguments)
        if problem:
            yield _error(offer.name, problem, f"write def {method}({', '.join(('self', *arguments))})")


def _check_policy(offer: Offer, target: type) -> Iterator[Finding]:
    if not callable(getattr(target, "kept", None)):
        yield _error(offer.name, f"{offer.target} has no method kept", "write def kept(self, saved)")
    elif problem := _misfit(target, "kept", ("saved",)):
        yield _error(offer.name, problem, "write def kept(self, saved)")


_CHECKS = {
    "handler": _check_handler,
    "logger": _check_logger,
    "log_handler": _check_call,
    "save_handler": _check_save_handler,
    "policy": _check_policy,
    "filter": _check_call,
    "metric": _check_metric,
    "event": _check_event,
}


def _error(name: str, message: str, remedy: str) -> Finding:
    return Finding(name, "error", message, remedy)


def _is_called(target: type) -> bool:
    """Return whether instances of a class are callable."""
    return any("__call__" in vars(each) for each in target.__mro__)


def _misfit(target: type, method: str, arguments: tuple[str, ...]) -> str:
    """Explain why a method does not accept the arguments; return an empty string if the method accepts them."""
    function = getattr(target, method)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return f"{method} is async and would never be awaited"
    bound = isinstance(inspect.getattr_static(target, method), (staticmethod, classmethod))
    try:
        signature = inspect.signature(function)
    except ValueError:
        # A method written in C may have no signature.
        return ""
    try:
        signature.bind(*() if bound else (None,), *arguments)
    except TypeError:
        return f"{method}{signature} cannot be called as {method}({', '.join(arguments)})"
    return ""
