"""What glowplug raises, and warns with, beyond the built-in classes."""

from __future__ import annotations

__all__ = [
    "GlowplugPluginWarning",
    "GlowplugWarning",
    "NotComputableError",
    "PluginConflictError",
    "PluginIncompatibleError",
    "PluginLoadError",
    "PluginNotFoundError",
]


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
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", GlowplugWarning)  # one filter for all of them
        ...     warnings.warn("the epoch had no data", GlowplugWarning)
    """


class GlowplugPluginWarning(GlowplugWarning):
    """A plugin is installed and does not work; everything else does.

    Example:
        >>> issubclass(GlowplugPluginWarning, UserWarning)
        True
    """


class PluginNotFoundError(ImportError):
    """No plugin that may load offers the name that was asked for; the text says how to get one that does.

    It is an `ImportError`, since it comes out of ``from glowplug.handlers import <name>``.

    Example:
        >>> try:
        ...     from glowplug.handlers import NoSuchHandler
        ... except PluginNotFoundError as error:
        ...     print(str(error).partition(".")[0])
        no plugin offers the handler 'NoSuchHandler'
    """


class PluginLoadError(ImportError):
    """A plugin is installed and cannot be used; the text and ``__cause__`` say why.

    Example:
        >>> issubclass(PluginLoadError, ImportError)
        True
    """


class PluginIncompatibleError(PluginLoadError):
    """A plugin is made for another version of the core than the one that runs.

    Example:
        >>> issubclass(PluginIncompatibleError, PluginLoadError)
        True
    """


class PluginConflictError(ImportError):
    """Several plugins offer the name that was asked for; the text names their distributions.

    Example:
        >>> issubclass(PluginConflictError, ImportError)
        True
    """
