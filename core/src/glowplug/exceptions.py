"""What glowplug raises, and warns with, beyond the built-in classes."""

from __future__ import annotations

__all__ = ["GlowplugWarning", "NotComputableError"]


class NotComputableError(RuntimeError):
    """A metric was asked for its value before it was given any data (U-002).

    Example:
        >>> try:
        ...     raise NotComputableError("Accuracy has seen no example")
        ... except RuntimeError as error:
        ...     print(error)
        Accuracy has seen no example
    """


class GlowplugWarning(UserWarning):
    """Something is not as it should be, and the run goes on.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", GlowplugWarning)  # make them all errors
        >>> warnings.resetwarnings()
    """
