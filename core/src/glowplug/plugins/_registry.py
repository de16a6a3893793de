"""Registry of the plugins in this process.

Plugins are loaded once, when they are first needed, for example by ``glowplug.handlers``, ``glowplug.metrics`` or ``to_scalar``.
A faulty plugin does not affect the other plugins. Loading a plugin never attaches its handlers or metrics to an engine.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from itertools import chain
from numbers import Real
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from glowplug._save_handler import SaveHandler
from glowplug.exceptions import (
    GlowplugPluginWarning,
    PluginConflictError,
    PluginLoadError,
)
from glowplug.hookspecs import Finding, Offer
from glowplug.plugins._discovery import (
    InstalledPlugin,
    describe_entry_points,
    installed_plugins,
    is_beside,
)
from glowplug.plugins._loading import (
    Plugin,
    PluginFailure,
    PluginManager,
    ask_plugin,
    collect,
    describe_error,
    import_target,
    load_plugin,
    namespace_of,
    show,
)
from glowplug.plugins._settings import STRICT_VARIABLE, is_on, trace
from glowplug.plugins._suggest import explain_missing, explain_unknown_scheme

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from importlib.metadata import EntryPoint

    from glowplug.hookspecs import OfferKind

__all__ = ["SLOW_IMPORT_SECONDS", "Registry", "get_registry", "save_handler", "to_scalar", "use_registry"]

SLOW_IMPORT_SECONDS = 2.0
"""Limit in seconds; a warning is issued for each plugin module whose import takes longer."""


class Registry:
    """The installed plugins, with their offers and failures.

    Args:
        installed: Plugins returned by :func:`installed_plugins`.
        strict: ``True`` raises an error for the first faulty plugin. ``False`` (the default) records each faulty plugin in
            ``failures``.

    Raises:
        PluginLoadError: If a plugin is faulty and ``strict`` is ``True``.

    Attributes:
        plugins: The loaded plugins, sorted by name and distribution.
        blocked: The plugins that a setting blocks. These plugins were not imported.
        failures: The faulty plugins, in the order in which they failed.

    Example:
        >>> registry = Registry([])
        >>> registry.plugins, registry.failures, registry.blocked
        ((), (), ())
    """

    def __init__(self, installed: Iterable[InstalledPlugin], *, strict: bool = False) -> None:
        self._strict = strict
        self._manager = PluginManager()
        self._by_key: dict[str, Plugin] = {}
        self.failures: tuple[PluginFailure, ...] = ()
        self._lock = threading.Lock()
        found = sorted(installed, key=attrgetter("name", "distribution"))
        self.blocked: tuple[InstalledPlugin, ...] = tuple(plugin for plugin in found if plugin.blocked_by)
        for plugin in found:
            if not plugin.blocked_by:
                self._load(plugin)
        self.plugins: tuple[Plugin, ...] = tuple(self._by_key.values())
        self._offers: dict[str, dict[str, list[tuple[Plugin, Offer]]]] = {
            "handler": {},
            "metric": {},
            "event": {},
        }
        for loaded in self.plugins:
            for offer in loaded.offers:
                self._offers[namespace_of(offer.kind)].setdefault(offer.name, []).append((loaded, offer))

    @classmethod
    def from_entry_points(
        cls, entry_points: Iterable[EntryPoint], environ: Mapping[str, str] = os.environ
    ) -> Registry:
        """Create a registry from entry points, without changing the registry of the process.

        Args:
            entry_points: Entry points. The attribute ``dist`` of an entry point identifies its distribution.
            environ: Environment variables that contain the settings. Defaults to ``os.environ``.

        Returns:
            The registry. Call :meth:`warn` to report faulty plugins.

        Raises:
            PluginLoadError: If a plugin is faulty and ``environ`` turns ``GLOWPLUG_STRICT_PLUGINS`` on.

        Example:
            >>> Registry.from_entry_points([]).plugins
            ()
        """
        return cls(describe_entry_points(entry_points, environ), strict=is_on(environ.get(STRICT_VARIABLE)))

    def warn(self) -> None:
        """Warn about each faulty plugin and each slow import.

        Example:
            >>> Registry([]).warn()
        """
        for failure in self.failures:
            warnings.warn(GlowplugPluginWarning(str(failure)), stacklevel=2)
        for plugin in self.plugins:
            if plugin.import_seconds > SLOW_IMPORT_SECONDS:
                warnings.warn(
                    f"{plugin} took {plugin.import_seconds:.1f} s to import; its module {plugin.module} probably imports"
                    " a large library before any handler needs it. Report the slow import to the author of the plugin;"
                    f" to disable the plugin, set GLOWPLUG_DISABLED_PLUGINS={plugin.name}",
                    GlowplugPluginWarning,
                    stacklevel=2,
                )

    def names(self, kind: OfferKind) -> list[str]:
        """List the names of one kind that the plugins offer.

        Args:
            kind: Kind of offer; ``"handler"`` includes loggers, log handlers and save handlers.

        Returns:
            The names, sorted.

        Raises:
            ValueError: If the kind is unknown.

        Example:
            >>> Registry([]).names("handler")
            []
        """
        return sorted(
            name
            for name, found in self._offers[namespace_of(kind)].items()
            if kind == "handler" or any(offer.kind == kind for _, offer in found)
        )

    def resolve(self, kind: OfferKind, name: str) -> Any:
        """Import and return the target of a name that a plugin offers.

        Args:
            kind: Kind of offer; ``"handler"`` includes loggers, log handlers and save handlers.
            name: The name, such as ``"EarlyStopping"``.

        Returns:
            The target, usually a class.

        Raises:
            PluginNotFoundError: If no loaded plugin offers the name.
            PluginLoadError: If the plugin that offers the name is faulty.
            PluginConflictError: If several plugins offer the name.
            ValueError: If the kind is unknown.

        Example:
            >>> try:
            ...     Registry([]).resolve("handler", "MLflowLogger")
            ... except ImportError as error:
            ...     print(error)
            no plugin offers the handler 'MLflowLogger'. It is in glowplug-mlflow: pip install glowplug-mlflow
        """
        offers = self._offers[namespace_of(kind)].get(name, ())
        found = [(plugin, offer) for plugin, offer in offers if kind in {"handler", offer.kind}]
        sources = [f"{plugin.distribution} {plugin.version}" for plugin, _ in found]
        trace(f"requested the {kind} {name}: offered by {' and '.join(sources) or 'no plugin'}")
        if not found:
            raise explain_missing(kind, name, self._offers, self.blocked, self.failures)
        if len(found) > 1:
            listed = " and ".join([", ".join(sources[:-1]), sources[-1]])
            others = ",".join(plugin.distribution for plugin, _ in found[1:])
            raise PluginConflictError(
                f"{listed} {'both' if len(found) == 2 else 'all'} offer the {kind} {name!r}."  # noqa: PLR2004 a pair
                f" Uninstall or disable all but one, for example with GLOWPLUG_DISABLED_PLUGINS={others}"
            )
        return import_target(*found[0])

    def origin_of(self, value: Any) -> Plugin | None:
        """Return the plugin that provides a class, function or object.

        Args:
            value: A class, function, method or object.

        Returns:
            The plugin, or None if no plugin provides the value.

        Example:
            >>> Registry([]).origin_of(dict) is None
            True
        """
        module = getattr(value, "__module__", None) or ""
        target = f"{module}:{getattr(value, '__qualname__', type(value).__qualname__)}"
        offering = (
            plugin for plugin in self.plugins if any(offer.target == target for offer in plugin.offers)
        )
        beside = (plugin for plugin in self.plugins if is_beside(plugin.module, module))
        return next(chain(offering, beside), None)

    def to_scalar(self, value: Any) -> float | None:
        """Convert a value to a number with the ``glowplug_to_scalar`` hooks of the plugins.

        Args:
            value: A single value from an engine's output or metrics.

        Returns:
            The number, or None if no plugin supports the type of the value.

        Example:
            >>> Registry([]).to_scalar(object()) is None
            True
        """
        answer = self._first_answer("glowplug_to_scalar", Real, "a number", value=value)
        return None if answer is None else float(answer)

    def save_handler(self, uri: str) -> SaveHandler | Callable[..., Any] | None:
        """Return the save handler that a plugin provides for an address.

        Args:
            uri: An address with a scheme, as in ``"s3://bucket/run"``.

        Returns:
            A save handler, or None if no plugin supports the scheme.

        Example:
            >>> Registry([]).save_handler("s3://bucket/run") is None
            True
        """
        return cast(
            "SaveHandler | Callable[..., Any] | None",
            self._first_answer("glowplug_save_handler", (SaveHandler, Callable), "a save handler", uri=uri),
        )

    def findings(self) -> Iterator[tuple[Plugin, Finding]]:
        """Run the ``glowplug_doctor`` hook of each plugin.

        Yields:
            Pairs of a plugin and a finding. If the hook of a plugin fails, the finding has the status ``"error"``.

        Example:
            >>> list(Registry([]).findings())
            []
        """
        for plugin in self.plugins:
            try:
                found = collect(self._manager, plugin.key, "glowplug_doctor", Finding)
            except PluginLoadError as error:
                found = (Finding(name="glowplug_doctor", status="error", message=str(error)),)
            for finding in found:
                yield plugin, finding

    def _load(self, installed: InstalledPlugin) -> None:
        _loading.active = True
        try:
            self._by_key[installed.key] = load_plugin(installed, self._manager)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 a plugin may call sys.exit or pytest.skip during its import
            if isinstance(error, PluginLoadError):
                error.plugin, error.distribution = installed.name, installed.distribution
            self._record(PluginFailure(installed.name, installed.distribution, installed.version, error))
        finally:
            _loading.active = False

    def _record(self, failure: PluginFailure) -> None:
        if self._strict:
            message = f"{failure}. This is an error and not a warning because {STRICT_VARIABLE} is set"
            raise failure.error(message) from failure.exception
        with self._lock:
            self.failures += (failure,)
        trace(f"failed: {failure}")

    def _first_answer(self, hook: str, wanted: Any, description: str, **arguments: Any) -> Any:
        """Return the first result other than None from the plugins that implement a hook; drop plugins that fail."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        for key in dict.fromkeys(impl.plugin_name for impl in reversed(implementations)):
            try:
                answer = ask_plugin(self._manager, key, hook, **arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 a plugin must not end a run
                self._drop(key, hook, f"the hook {hook}() failed: {describe_error(error)}", error)
                continue
            if isinstance(answer, wanted):
                return answer
            if answer is not None:
                self._drop(
                    key, hook, f"the hook {hook}() must return {description} or None; got {show(answer)}"
                )
        return None

    def _drop(self, key: str, hook: str, message: str, cause: BaseException | None = None) -> None:
        """Stop calling the hooks of a plugin that failed during a run, and warn once."""
        with self._lock:
            if not self._manager.has_plugin(key):
                return
            self._manager.unregister(name=key)
        plugin = self._by_key[key]
        problem = PluginLoadError(message, plugin=plugin.name, distribution=plugin.distribution, hook=hook)
        problem.__cause__ = cause
        failure = PluginFailure(plugin.name, plugin.distribution, plugin.version, problem)
        self._record(failure)
        message = f"{failure}. The hooks of this plugin will not be called again"
        warnings.warn(GlowplugPluginWarning(message), stacklevel=5)


_lock = threading.Lock()
_loading = threading.local()
_registry: Registry | None = None


def get_registry() -> Registry:
    """Return the registry of this process.

    The first call loads the plugins and warns about faulty plugins.

    Returns:
        The registry. Each call returns the same object, except inside a ``with use_registry(...)`` block.

    Raises:
        PluginLoadError: If a plugin is faulty and ``GLOWPLUG_STRICT_PLUGINS=1`` is set, or if a plugin module accesses the
            registry during its import.

    Example:
        >>> get_registry() is get_registry()
        True
    """
    global _registry  # noqa: PLW0603 the one registry of the process, guarded by the lock
    if getattr(_loading, "active", False):
        raise PluginLoadError(
            "the plugin module accesses handlers or metrics of plugins at import time; import these handlers and metrics "
            "inside the functions that use them"
        )
    with _lock:
        if _registry is not None:
            return _registry
        registry = _registry = Registry(installed_plugins(), strict=is_on(os.environ.get(STRICT_VARIABLE)))
    registry.warn()
    return registry


@contextmanager
def use_registry(registry: Registry) -> Iterator[Registry]:
    """Replace the registry of the process inside a ``with`` block.

    Use this context manager in tests, and in applications that choose which plugins are available.

    Args:
        registry: The registry that :func:`get_registry` returns inside the ``with`` block, in all threads.

    Yields:
        The given registry.

    Example:
        >>> with use_registry(Registry([])) as registry:
        ...     get_registry() is registry
        True
    """
    global _registry  # noqa: PLW0603 the one registry of the process, guarded by the lock
    with _lock:
        before, _registry = _registry, registry
    try:
        yield registry
    finally:
        with _lock:
            _registry = before


def to_scalar(value: Any) -> float | None:
    """Convert a value to a number with the ``glowplug_to_scalar`` hooks of the installed plugins.

    A plugin is reported once and not called again if its hook raises an exception or returns a value of the wrong type.

    Args:
        value: A single value from an engine's output or metrics.

    Returns:
        The number, or None if no plugin supports the type of the value.

    Example:
        >>> with use_registry(Registry([])):
        ...     to_scalar(object()) is None
        True
    """
    return get_registry().to_scalar(value)


def save_handler(uri: str) -> SaveHandler | Callable[..., Any]:
    """Return the save handler that an installed plugin provides for an address.

    A plugin is reported once and not called again if its hook raises an exception or returns a value of the wrong type.

    Args:
        uri: An address with a scheme, as in ``"s3://bucket/run"``.

    Returns:
        A save handler, or a function ``f(checkpoint, filename, metadata)``. Such a function saves checkpoints but cannot load or
        remove them.

    Raises:
        PluginNotFoundError: If no plugin supports the scheme.

    Example:
        >>> with use_registry(Registry([])):
        ...     try:
        ...         save_handler("s3://bucket/run")
        ...     except ImportError as error:
        ...         print(str(error).partition(":")[0])
        no plugin handles s3
    """
    registry = get_registry()
    found = registry.save_handler(uri)
    if found is None:
        raise explain_unknown_scheme(uri, registry.blocked, registry.failures)
    return found
