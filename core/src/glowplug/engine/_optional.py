"""Fault isolation for optional handlers.

A handler attached with ``on_error="disable"`` is detached at its first exception; the fault is recorded in ``engine.faults``.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from glowplug.engine._call import Key, describe_handler
from glowplug.handles import RemovableEventHandle

_attaching: ContextVar[Guard | None] = ContextVar("glowplug_attaching", default=None)


@dataclass(frozen=True)
class Fault:
    """Failure that caused an optional handler to be detached.

    Args:
        handler: The class name of the handler.
        event: The event at which the handler failed, or ``"state_dict()"`` if its state could not be saved.
        exception: The exception without its traceback, because the traceback would keep the batch alive.
        origin: The plugin, distribution and version of the handler, or the handler's module if it belongs to no plugin.
        epoch: The epoch in which the handler failed.
        iteration: The iteration in which the handler failed.
        traceback: The formatted traceback.

    Example:
        >>> from glowplug import Events
        >>> fault = Fault("Postcard", Events.EPOCH_COMPLETED, OSError("no stamps"), epoch=3)
        >>> print(fault.handler, fault.event, repr(fault.exception), fault.epoch)
        Postcard Events.EPOCH_COMPLETED OSError('no stamps') 3
    """

    handler: str
    event: Key
    exception: Exception
    origin: str = ""
    epoch: int = 0
    iteration: int = 0
    traceback: str = ""


class Guard:
    """Guard around the calls of one optional handler.

    Args:
        handler: The attached object.
        drop: Function ``f(engine, guard)`` that removes the guarded registrations from an engine.
    """

    def __init__(self, handler: Any, drop: Callable[[Any, Guard], None]) -> None:
        self.handler = handler
        self.drop = drop
        self.handle = RemovableEventHandle()
        self.is_off = False

    def around(self, call: Callable[..., Any], event: Key) -> Callable[..., Any]:
        """Wrap a call so that an exception detaches the handler and later calls do nothing."""

        def guarded(engine: Any, *payload: Any) -> Any:
            # A firing in progress may still contain calls of a detached handler.
            if self.is_off:
                return None
            try:
                return call(engine, *payload)
            except Exception as error:
                if any(error is given for given in payload) or hasattr(error, "__glowplug_foreign__"):
                    raise
                self._detach(engine, event, error)

        return guarded

    def _detach(self, engine: Any, event: Key, error: Exception) -> None:
        self.is_off = True
        self.drop(engine, self)
        # A failure during removal must not end the run either.
        with suppress(Exception):
            self.handle.remove()
        state = engine.state
        fault = Fault(
            handler=describe_handler(self.handler),
            event=event,
            exception=error,
            origin=_origin(type(self.handler).__module__),
            epoch=state.epoch,
            iteration=state.iteration,
            traceback="".join(traceback.format_exception(type(error), error, error.__traceback__)),
        )
        engine.faults = (*engine.faults, fault)
        _warn(fault)
        error.__traceback__ = error.__context__ = error.__cause__ = None

    def __getstate__(self) -> dict[str, Any]:
        # The handle belongs to the original engine; a copied engine finds the registrations by their guard.
        return {**vars(self), "handle": RemovableEventHandle()}


def attach_optional(engine: Any, handler: Any, drop: Callable[[Any, Guard], None]) -> RemovableEventHandle:
    """Attach a handler and guard everything that its ``attach`` registers."""
    guard = Guard(handler, drop)
    token = _attaching.set(guard)
    try:
        guard.handle = handler.attach(engine)
    finally:
        _attaching.reset(token)
    return guard.handle


def guard_of_attach() -> Guard | None:
    """Return the guard of the optional handler that is being attached, if any."""
    return _attaching.get()


def mark_as_foreign(error: BaseException) -> None:
    """Mark an exception from a nested run or event, because the handler that started the run or event is not at fault."""
    error.__glowplug_foreign__ = True  # type: ignore[attr-defined]  # exceptions accept attributes


def _origin(module: str) -> str:
    """Describe the plugin that a module belongs to, using only metadata; without a plugin, return the module's name."""
    from glowplug.plugins import installed_plugins, is_beside

    for plugin in installed_plugins():
        if is_beside(plugin.module, module):
            return f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version}"
    return module


def _warn(fault: Fault) -> None:
    from glowplug.exceptions import GlowplugWarning
    from glowplug.plugins import describe_error

    warnings.warn(
        f"{fault.handler} ({fault.origin}) failed at {fault.event}, in epoch {fault.epoch}, iteration"
        f" {fault.iteration}: {describe_error(fault.exception)}. The handler was detached and the run continues;"
        " see engine.faults[-1].traceback. To end the run instead, attach the handler with on_error='raise'",
        GlowplugWarning,
        stacklevel=2,
    )
