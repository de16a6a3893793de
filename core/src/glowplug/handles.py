"""Handle of a registration."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType


class RemovableEventHandle:
    """Handle that removes what one call registered; also a context manager.

    It keeps neither the engine nor the handler alive.

    Args:
        *undo: functions without arguments; each is called once by :meth:`remove`, the last one first.

    Example:
        >>> from glowplug import Engine, Events
        >>> engine = Engine(lambda engine, batch: batch)
        >>> with engine.add_event_handler(Events.STARTED, lambda: print("started")):
        ...     _ = engine.run([1])
        started
        >>> _ = engine.run([1])
    """

    def __init__(self, *undo: Callable[[], object]) -> None:
        self._undo = list(undo)

    @classmethod
    def join(cls, *handles: RemovableEventHandle) -> RemovableEventHandle:
        """Return one handle that removes what all of these would.

        Args:
            *handles: the handles to join; each can still be used by itself.

        Example:
            >>> RemovableEventHandle.join(RemovableEventHandle(), RemovableEventHandle()).remove()
        """
        return cls(*(handle.remove for handle in handles))

    def remove(self) -> None:
        """Remove the registrations; a second call does nothing."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> RemovableEventHandle:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()
