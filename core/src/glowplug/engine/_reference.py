"""Weak references to engines."""

from __future__ import annotations

import weakref
from typing import Any

from glowplug.typing import EngineProtocol


class EngineReference:
    """Weak reference from a handler to an engine.

    An engine holds references to its handlers. If a handler held a strong reference back to its engine, both objects
    and the model would stay in memory until the garbage collector runs. When an engine and its handlers are copied or pickled
    together, each copied handler refers to the copied engine.

    Args:
        engine: The engine to refer to; with ``None``, the reference is empty.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> engine = FakeEngine()
        >>> reference = EngineReference(engine)
        >>> reference() is engine
        True
        >>> del engine
        >>> print(reference())
        None
    """

    def __init__(self, engine: EngineProtocol | None) -> None:
        self._reference: weakref.ref[Any] | None = None if engine is None else weakref.ref(engine)

    def __call__(self) -> EngineProtocol | None:
        """Return the engine, or ``None`` if no engine was given or the engine no longer exists."""
        return None if self._reference is None else self._reference()

    def __reduce__(self) -> tuple[type[EngineReference], tuple[EngineProtocol | None]]:
        return EngineReference, (self(),)
