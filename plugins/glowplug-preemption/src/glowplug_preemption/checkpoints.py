"""Find the checkpoint handlers of an engine, and let them save now."""

from __future__ import annotations

import functools
import logging
from typing import Any

from glowplug import Events, Phase
from glowplug.engine import describe_handler
from glowplug.typing import EngineProtocol, RegistrationProtocol, SavesNow
from glowplug_preemption.phased_call import PhasedCall

_log = logging.getLogger("glowplug_preemption")

# Handlers of these events need an additional argument, or prepare and finish saves.
_NO_SAVES = {
    Events.STARTED,
    Events.EXCEPTION_RAISED,
    Events.TERMINATE_SINGLE_EPOCH,
    Events.INTERRUPT,
    Events.TEARDOWN,
}


def savers(engine: EngineProtocol) -> list[RegistrationProtocol]:
    """Return one registration of each handler that can save now.

    These are the handlers in the phase ``CHECKPOINT``, except those that rank their checkpoints by a score: in the middle of an
    epoch, there is no score, or the score of older weights. A handler that implements ``SavesNow`` decides for itself.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> class Save:
        ...     phase = Phase.CHECKPOINT
        ...
        ...     def __call__(self, engine): ...
        >>> engine = FakeEngine()
        >>> handle = engine.add_event_handler(Events.EPOCH_COMPLETED(every=5), Save())
        >>> len(savers(engine))
        1
    """
    found: dict[int, RegistrationProtocol] = {}
    for registration in engine.registrations():
        handler = _object_of(registration)
        is_checkpoint = registration.phase is Phase.CHECKPOINT and not isinstance(handler, PhasedCall)
        if is_checkpoint and id(handler) not in found:
            has_no_score = getattr(handler, "score_function", None) is None
            can_run = has_no_score and registration.event not in _NO_SAVES
            if can_run or isinstance(handler, SavesNow):
                found[id(handler)] = registration
    return list(found.values())


def save_all(engine: EngineProtocol, registrations: list[RegistrationProtocol]) -> list[str]:
    """Let all handlers save, and return descriptions of those that did.

    Args:
        engine: The engine of the handlers.
        registrations: Result of :func:`savers`.

    Raises:
        Exception: The exception of the first handler that failed, after all other handlers have saved.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> save_all(FakeEngine(), [])
        []
    """
    saved: list[str] = []
    problem: Exception | None = None
    for registration in registrations:
        handler = _object_of(registration)
        try:
            if not isinstance(handler, SavesNow):
                engine.run_registration(registration)
            elif not handler.save_now(engine):
                continue
            saved.append(describe_handler(registration.handler))
        except Exception as error:  # noqa: BLE001 - the other handlers save in any case
            _log.exception("%s could not save a checkpoint", describe_handler(handler))
            problem = problem or error
    if problem is not None:
        raise problem
    return saved


def _object_of(registration: RegistrationProtocol) -> Any:
    """Return the handler without ``functools.partial``; for a method, its object."""
    handler: Any = registration.handler
    while isinstance(handler, functools.partial):
        handler = handler.func
    return getattr(handler, "__self__", handler)
