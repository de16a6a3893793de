"""Exceptions and warnings of glowplug.

::

    RuntimeError
     +-- NotComputableError
     +-- RankFailedError
    ImportError
     +-- PluginNotFoundError
     +-- PluginConflictError
     +-- PluginLoadError
          +-- PluginIncompatibleError
    UserWarning
     +-- GlowplugWarning
          +-- GlowplugPluginWarning
          +-- GlowplugDeprecationWarning (also a FutureWarning)
    SystemExit
     +-- PreemptionExit
"""

from __future__ import annotations

__all__ = [
    "GlowplugDeprecationWarning",
    "GlowplugPluginWarning",
    "GlowplugWarning",
    "NotComputableError",
    "PluginConflictError",
    "PluginIncompatibleError",
    "PluginLoadError",
    "PluginNotFoundError",
    "PreemptionExit",
    "RankFailedError",
]


class NotComputableError(RuntimeError):
    """A metric has no value because it has seen no data.

    Example:
        >>> try:
        ...     raise NotComputableError("Accuracy has seen no example")
        ... except RuntimeError as error:
        ...     print(error)
        Accuracy has seen no example
    """


class RankFailedError(RuntimeError):
    """The run ended because another rank failed.

    If a collective operation failed as a consequence, ``__cause__`` is the exception of that operation.

    Args:
        rank: The rank that failed first.
        exception: Name of the class of the exception that ended its run.
        message: Message of that exception.
        iteration: Iteration of its outermost engine.

    Example:
        >>> print(RankFailedError(1, "ValueError", "the loss is negative: -3", 57))
        rank 1 failed at iteration 57: ValueError: the loss is negative: -3
    """

    def __init__(self, rank: int, exception: str, message: str, iteration: int) -> None:
        super().__init__(rank, exception, message, iteration)
        self.rank = rank
        self.exception = exception
        self.message = message
        self.iteration = iteration

    def __str__(self) -> str:
        reason = f"{self.exception}: {self.message}" if self.message else self.exception
        return f"rank {self.rank} failed at iteration {self.iteration}: {reason}"


class GlowplugWarning(UserWarning):
    """Base class of all warnings of glowplug.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", GlowplugWarning)
        ...     warnings.warn("the epoch had no data", GlowplugWarning)
    """


class GlowplugPluginWarning(GlowplugWarning):
    """An installed plugin is faulty; the other plugins work.

    Example:
        >>> import warnings
        >>> from glowplug.plugins import get_registry
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter(
        ...         "error", GlowplugPluginWarning
        ...     )  # raise an exception for a faulty plugin
        ...     registry = get_registry()
    """


class GlowplugDeprecationWarning(GlowplugWarning, FutureWarning):
    """A name or an argument is deprecated: it still works, but will be removed.

    Python shows this warning wherever the name is used. A ``DeprecationWarning`` would be hidden in all modules that a training
    script imports.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", GlowplugDeprecationWarning)  # find deprecated names in tests
        ...     from glowplug import Engine
    """


class PluginNotFoundError(ImportError):
    """No loaded plugin offers the requested name.

    This error is an ``ImportError`` because the statement ``from glowplug.handlers import <name>`` raises it.

    Example:
        >>> try:
        ...     from glowplug.handlers import NoSuchHandler
        ... except PluginNotFoundError as error:
        ...     print(str(error).partition(".")[0])
        no plugin offers the handler 'NoSuchHandler'
    """


class PluginLoadError(ImportError):
    """An installed plugin is faulty; ``__cause__`` holds the original exception, if there is one.

    Args:
        message: What is wrong.
        plugin: Name of the plugin.
        distribution: Distribution that provides the plugin.
        hook: Name of the hook that failed.

    Attributes:
        plugin: Name of the plugin; ``None`` if unknown.
        distribution: Distribution that provides the plugin; ``None`` if unknown.
        hook: Name of the hook that failed; ``None`` if no hook failed.

    Example:
        >>> error = PluginLoadError("glowplug_offers() returned None", plugin="shout", hook="glowplug_offers")
        >>> error.plugin, error.hook
        ('shout', 'glowplug_offers')
    """

    def __init__(
        self,
        message: str,
        *,
        plugin: str | None = None,
        distribution: str | None = None,
        hook: str | None = None,
    ) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.distribution = distribution
        self.hook = hook


class PluginIncompatibleError(PluginLoadError):
    """A plugin requires another version of the core.

    Example:
        >>> error = PluginIncompatibleError(
        ...     "acme-shout requires glowplug<1", plugin="shout", distribution="acme-shout"
        ... )
        >>> error.distribution
        'acme-shout'
    """


class PluginConflictError(ImportError):
    """Several plugins offer the requested name.

    To use one of them, import the name from its package, or block the other plugin with ``GLOWPLUG_DISABLED_PLUGINS``.

    Example:
        >>> try:
        ...     raise PluginConflictError("2 plugins offer the handler 'TimeLimit'")
        ... except ImportError as error:
        ...     print(error)
        2 plugins offer the handler 'TimeLimit'
    """


class PreemptionExit(SystemExit):
    """The process must end although the run is not finished, for example because a cluster needs the machine.

    A handler raises this exception to end the run and the process with an exit code. The run does not count as failed: the
    outcome of each running engine is ``INTERRUPTED``, ``EXCEPTION_RAISED`` does not fire, and ``TEARDOWN`` fires. Loggers close
    their runs with the same outcome. If the exception is caught, the next ``run()`` continues after the last completed iteration.

    Args:
        code: Exit code of the process.

    Example:
        >>> from glowplug import Engine, Events
        >>> engine = Engine(lambda engine, batch: batch)
        >>> @engine.on(Events.ITERATION_COMPLETED(once=2))
        ... def leave():
        ...     raise PreemptionExit(75)
        >>> try:
        ...     engine.run([1, 2, 3])
        ... except PreemptionExit as end:
        ...     print(end.code, engine.state.outcome)
        75 RunOutcome.INTERRUPTED
    """
