"""References to engines that do not keep them alive."""

from __future__ import annotations

import weakref
from typing import Any

from glowplug.typing import EngineProtocol


class EngineReference:
    """Reference that a handler keeps to an engine without keeping the engine alive.

    An engine refers to its handlers; a handler that referred to the engine would delay freeing both, and the model with
    them, until the garbage collector runs. A copy or pickle of an engine and its handlers refers to the copied engine.

    Args:
        engine: The engine, or ``None``.

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
        """Return the engine, or ``None`` if there is none or it no longer exists."""
        return None if self._reference is None else self._reference()

    def __reduce__(self) -> tuple[type[EngineReference], tuple[EngineProtocol | None]]:
        return EngineReference, (self(),)
