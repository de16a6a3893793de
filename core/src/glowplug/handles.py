"""Handles that remove registrations."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

__all__ = ["RemovableEventHandle"]


class RemovableEventHandle:
    """Handle that removes the registrations made by one call; also a context manager.

    The handle does not keep the engine or the handler alive.

    Args:
        *undo: Functions without arguments; :meth:`remove` calls each of them once, in reverse order.

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
        """Join several handles into one handle that removes all their registrations.

        Args:
            *handles: The handles to join; each remains usable on its own.

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
