"""Handler that runs in a given phase."""

from __future__ import annotations

from collections.abc import Callable

from glowplug import Phase
from glowplug.engine import Delegate
from glowplug.typing import EngineProtocol


class PhasedCall(Delegate):
    """Handler that calls a method in a given phase.

    Args:
        owner: The object of the method.
        function: The method, which receives the engine.
        label: Description of the handler, which ``engine.describe()`` shows.
        phase: The phase.

    Example:
        >>> from glowplug import Events
        >>> from glowplug.testing import FakeEngine
        >>> engine = FakeEngine()
        >>> hello = PhasedCall(None, lambda engine: print("hello"), "greeter", Phase.LOGGING)
        >>> _ = engine.add_event_handler(Events.STARTED, hello)
        >>> _ = engine.fire(Events.STARTED)
        hello
    """

    def __init__(
        self, owner: object, function: Callable[[EngineProtocol], None], label: str, phase: Phase
    ) -> None:
        self.owner = owner
        self.label = label
        self.phase = phase
        self._function = function

    def __call__(self, engine: EngineProtocol) -> None:
        """Call the method."""
        self._function(engine)
