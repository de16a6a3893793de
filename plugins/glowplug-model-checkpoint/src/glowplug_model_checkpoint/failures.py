"""Failed saves of a handler that continues after a failure."""

from __future__ import annotations

import warnings
from typing import ClassVar

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import EngineProtocol

__all__ = ["FailedSaves"]

# Maximum number of failures that the summary lists.
MAX_SHOWN = 5


class FailedSaves:
    """Reports each failed save of a run, and a summary at the end of the run.

    Args:
        handler: Name of the handler in the warnings.

    Example:
        >>> FailedSaves("ModelCheckpoint").count
        0
    """

    # After the handler that completes the last save of the run.
    phase: ClassVar[Phase] = Phase.CHECKPOINT

    def __init__(self, handler: str) -> None:
        self._handler = handler
        self._last: object = None
        self._attempts = 0
        self._failures: list[str] = []
        self._at_end: RemovableEventHandle | None = None

    @property
    def count(self) -> int:
        """The number of failed saves in this run."""
        return len(self._failures)

    def begin(self, run: EngineProtocol) -> None:
        """Count a save, and report the summary at the end of the run.

        Args:
            run: The engine whose run ends last: the trainer, also for a handler of an evaluator.
        """
        if self._at_end is None:
            self._at_end = run.add_event_handler(Events.TEARDOWN, self)
        self._attempts += 1

    def succeed(self, location: object) -> None:
        """Note the location of a checkpoint that was saved."""
        self._last = location

    def add(self, filename: str, error: Exception) -> None:
        """Report the failure of the save that began last."""
        problem = f"{type(error).__name__}: {error}"
        self._failures.append(f"{filename} ({problem})")
        warnings.warn(
            f"{self._handler} could not save {filename!r} ({problem}); the run continues, and the next save is attempted",
            GlowplugWarning,
            stacklevel=3,
        )

    def warn_of_removal(self, error: Exception) -> None:
        """Report that older checkpoints could not be removed; the next save tries again."""
        warnings.warn(
            f"{self._handler} could not remove older checkpoints ({type(error).__name__}: {error}); the next save tries again",
            GlowplugWarning,
            stacklevel=3,
        )

    def __call__(self) -> None:
        """Report how many saves failed, if any, and begin to count anew."""
        attempts, failures = self._attempts, self._failures
        self._attempts, self._failures = 0, []
        if self._at_end is not None:
            self._at_end.remove()
            self._at_end = None
        if failures:
            shown = ", ".join(failures[:MAX_SHOWN]) + (", ..." if len(failures) > MAX_SHOWN else "")
            warnings.warn(
                f"{self._handler}: {len(failures)} of {attempts} saves failed: {shown}. The last checkpoint is "
                f"{self._last}",
                GlowplugWarning,
                stacklevel=2,
            )
