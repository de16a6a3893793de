"""Functions that attach log handlers to engines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from glowplug.engine import Delegate, check_function, describe_handler
from glowplug.events import AnyEvent, CallableEventWithFilter, Events, EventsList
from glowplug.handles import RemovableEventHandle
from glowplug.loggers._step import detach_steps
from glowplug.phase import Phase
from glowplug.stash import StashKey
from glowplug.state import RunOutcome
from glowplug.typing import EngineProtocol, Stateful


class AttachedLogger(Stateful, Protocol):
    """Protocol for the logger members used in this module."""

    state_key: str
    _stash_key: StashKey[Any]
    _links: list[EngineLink]

    @property
    def is_logging_rank(self) -> bool:
        """See ``Logger.is_logging_rank``."""

    def takes(self, method: str) -> bool:
        """See ``Logger.takes``."""

    def _run_ended(self, engine: EngineProtocol, outcome: RunOutcome | None = None) -> None: ...


def attach_log_handler(
    logger: AttachedLogger,
    engine: EngineProtocol,
    event_name: AnyEvent,
    log_handler: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> RemovableEventHandle:
    """Attach a log handler; see ``Logger.attach``."""
    _check_handler(logger, log_handler)
    events = event_name if isinstance(event_name, EventsList) else (event_name,)
    for event in events:
        _check_arguments(log_handler, (engine, logger, event, *args), kwargs)
    # If the engine does not know one of the events, the registrations made so far are undone.
    with ExitStack() as added:
        for event in events:
            handler = _LogCall(logger, log_handler, event, args, kwargs)
            added.enter_context(engine.add_event_handler(event, handler))
        added.enter_context(_join_engine(logger, engine))
        return RemovableEventHandle(added.pop_all().close)


class _LogCall(Delegate):
    """Engine handler that calls a log handler on the ranks that log."""

    phase = Phase.LOGGING

    def __init__(
        self,
        logger: AttachedLogger,
        log_handler: Callable[..., Any],
        event: CallableEventWithFilter | str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        self.owner = logger
        self.label = f"{type(logger).__name__} <- {describe_handler(log_handler)}"
        self._log_handler = log_handler
        self._arguments = (logger, event, *args)
        self._kwargs = kwargs

    def __call__(self, engine: EngineProtocol, exception: BaseException | None = None) -> object:
        # Return the handler's result, so that the engine can reject a coroutine or a generator.
        if not self.owner.is_logging_rank:
            return None
        return self._log_handler(engine, *self._arguments, **self._kwargs)


class EngineLink:
    """Event handlers and state that a logger registers on an engine once, for all of its log handlers there."""

    def __init__(self, logger: AttachedLogger, engine: EngineProtocol) -> None:
        self.uses = 0
        self.outcome: RunOutcome | None = None
        logger._links.append(self)  # noqa: SLF001 - part of the logger
        self.handle = RemovableEventHandle.join(
            engine.add_event_handler(Events.TEARDOWN, logger._run_ended),  # noqa: SLF001 - part of the logger
            # An interrupted run that is never resumed does not fire TEARDOWN.
            engine.add_event_handler(Events.INTERRUPT, logger._run_ended, RunOutcome.INTERRUPTED),  # noqa: SLF001 - part of the logger
            engine.register_state(logger.state_key, logger),
        )


def _join_engine(logger: AttachedLogger, engine: EngineProtocol) -> RemovableEventHandle:
    """Link a logger to an engine and return a handle; the link ends when all such handles are removed."""
    key, stash = logger._stash_key, engine.stash  # noqa: SLF001 - part of the logger
    link = stash.get(key)
    if not isinstance(link, EngineLink):
        link = stash[key] = EngineLink(logger, engine)
    link.uses += 1
    linked = stash.setdefault(_LINKED, set())
    linked.add(key)

    def leave() -> None:
        link.uses -= 1
        if link.uses == 0:
            del stash[key]
            link.handle.remove()
            linked.discard(key)
            if not linked:
                del stash[_LINKED]
                detach_steps(stash)

    return RemovableEventHandle(leave)


_LINKED = StashKey[set[StashKey[EngineLink]]]()
"""The loggers that are attached to an engine, by the keys of their links."""


def _check_handler(logger: AttachedLogger, log_handler: Callable[..., Any]) -> None:
    name = type(logger).__name__
    if isinstance(log_handler, (str, CallableEventWithFilter, EventsList)):
        raise TypeError(
            f"{name}.attach: {log_handler!r} is an event, not a log handler; write "
            f"logger.attach(engine, {log_handler!s}, log_handler)"
        )
    if isinstance(log_handler, type):
        raise TypeError(
            f"{name}.attach: log_handler must be an instance, not the class {log_handler.__name__}; write "
            f"logger.attach(engine, event_name, {log_handler.__name__}(...))"
        )
    if not callable(log_handler):
        raise TypeError(
            f"{name}.attach: log_handler must be callable as f(engine, logger, event_name), got {log_handler!r}; pass a "
            "function or a log handler such as OutputHandler(...)"
        )
    check_function(log_handler, f"{name}.attach: log_handler {describe_handler(log_handler)}")
    method = getattr(log_handler, "method", None)
    if isinstance(method, str) and not logger.takes(method):
        write = method.replace("log_", "write_")
        raise TypeError(
            f"{name} does not implement {write}, which {type(log_handler).__name__} needs; use another log handler"
        )


def _check_arguments(
    log_handler: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    try:
        signature = inspect.signature(log_handler)
    except ValueError:
        # Some builtins have no signature.
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"{describe_handler(log_handler)}{signature} cannot be called as f(engine, logger, event_name, ...): {error}"
        ) from None
