"""Which engines of a progress bar are running inside each other."""

from __future__ import annotations

from glowplug.typing import EngineProtocol


class Runs:
    """Engines that are running and have the same progress bar, the outermost engine first.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> runs, trainer, evaluator = Runs(), FakeEngine(), FakeEngine()
        >>> runs.enter(trainer), runs.enter(evaluator), runs.enter(trainer)
        (0, 1, 0)
        >>> runs.outer(evaluator) is trainer, runs.outer(trainer)
        (True, None)
    """

    def __init__(self) -> None:
        self._engines: list[EngineProtocol] = []

    def enter(self, engine: EngineProtocol) -> int:
        """Add an engine whose run has begun, unless it was added before; return the number of engines around it."""
        depth = self._depth(engine)
        if depth is None:
            depth = len(self._engines)
            self._engines.append(engine)
        return depth

    def leave(self, engine: EngineProtocol) -> None:
        """Remove an engine whose run has ended."""
        self._engines = [other for other in self._engines if other is not engine]

    def outer(self, engine: EngineProtocol) -> EngineProtocol | None:
        """Return the engine inside which an engine runs, or ``None``."""
        depth = self._depth(engine)
        return self._engines[depth - 1] if depth else None

    def _depth(self, engine: EngineProtocol) -> int | None:
        return next((depth for depth, other in enumerate(self._engines) if other is engine), None)
