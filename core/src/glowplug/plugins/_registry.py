"""The plugins of this process: loaded once, on first need, each isolated from the faults of the others.

Nothing here runs at ``import glowplug``; the first use of ``glowplug.handlers``, ``glowplug.metrics`` or `to_scalar`
loads the plugins. What is discovered is offered by name and never attached to anything.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from numbers import Real
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from glowplug.exceptions import (
    GlowplugPluginWarning,
    PluginConflictError,
    PluginLoadError,
)
from glowplug.hookspecs import Check
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
    Spec,
    ask_plugin,
    collect,
    import_target,
    load_plugin,
    one_line,
    show,
)
from glowplug.plugins._settings import STRICT_VARIABLE, is_on, trace
from glowplug.plugins._suggest import explain_missing, explain_unknown_scheme

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from importlib.metadata import EntryPoint

__all__ = [
    "STRICT_VARIABLE",
    "InstalledPlugin",
    "Plugin",
    "PluginFailure",
    "Registry",
    "get_registry",
    "save_handler",
    "to_scalar",
    "use_registry",
]

SLOW_IMPORT_SECONDS = 2.0
"""A plugin module that takes longer is warned of: it imports something that its handlers should import."""


class Registry:
    """The plugins that were found, what they offer, and what is wrong with the others.

    Args:
        installed: what the metadata say, as `glowplug.plugins._discovery.installed_plugins` returns it.
        strict: raise for the first faulty plugin instead of recording it. Default False.

    Raises:
        PluginLoadError: a plugin is faulty, and ``strict`` is set.

    Attributes:
        plugins: the plugins that loaded, sorted by name and distribution.
        blocked: the plugins that the user's settings keep from loading; they were not imported.

    Example:
        >>> registry = Registry([])
        >>> registry.plugins, registry.failures, registry.blocked
        ((), (), ())
    """

    def __init__(self, installed: Iterable[InstalledPlugin], *, strict: bool = False) -> None:
        self._strict = strict
        self._manager = PluginManager()
        self._by_key: dict[str, Plugin] = {}
        self._failures: list[PluginFailure] = []
        self._lock = threading.Lock()
        found = sorted(installed, key=attrgetter("name", "distribution"))
        self.blocked: tuple[InstalledPlugin, ...] = tuple(plugin for plugin in found if plugin.blocked_by)
        for plugin in found:
            if not plugin.blocked_by:
                self._load(plugin)
        self.plugins: tuple[Plugin, ...] = tuple(self._by_key.values())
        self._offers = {
            "handler": _index((plugin, spec) for plugin in self.plugins for spec in plugin.handlers),
            "metric": _index((plugin, spec) for plugin in self.plugins for spec in plugin.metrics),
            "event": _index((plugin, spec) for plugin in self.plugins for spec in plugin.events),
        }

    @classmethod
    def from_entry_points(
        cls, entry_points: Iterable[EntryPoint], environ: Mapping[str, str] | None = None
    ) -> Registry:
        """Build a registry of given entry points, beside that of the process.

        Args:
            entry_points: entry points that know their distribution.
            environ: where the three settings are read. Default: ``os.environ``.

        Returns:
            The registry; no warning has been given.

        Raises:
            PluginLoadError: a plugin is faulty, and `STRICT_VARIABLE` is set.

        Example:
            >>> Registry.from_entry_points([]).plugins
            ()
        """
        environ = os.environ if environ is None else environ
        return cls(describe_entry_points(entry_points, environ), strict=_is_strict(environ))

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """The plugins that do not work, in the order in which they failed."""
        return tuple(self._failures)

    def warn(self) -> None:
        """Warn once of each faulty plugin, and of each that is slow to import.

        Example:
            >>> Registry([]).warn()
        """
        for failure in self._failures:
            warnings.warn(GlowplugPluginWarning(str(failure)), stacklevel=2)
        for plugin in self.plugins:
            if plugin.import_seconds > SLOW_IMPORT_SECONDS:
                text = (
                    f"{plugin} took {plugin.import_seconds:.1f} s to import: its module {plugin.module} imports"
                    " something that its handlers should import when they are made. Tell its author; to do without"
                    f" it: GLOWPLUG_DISABLED_PLUGINS={plugin.name}"
                )
                warnings.warn(GlowplugPluginWarning(text), stacklevel=2)

    def names(self, kind: str) -> list[str]:
        """List the names that the plugins offer.

        Args:
            kind: ``"handler"``, ``"metric"`` or ``"event"``.

        Returns:
            The names, sorted.

        Example:
            >>> Registry([]).names("handler")
            []
        """
        return sorted(self._offers[kind])

    def resolve_handler(self, name: str) -> Any:
        """Import the handler that a plugin offers under a name.

        Args:
            name: as in ``"EarlyStopping"``.

        Returns:
            What the plugin's target is, usually a class.

        Raises:
            PluginNotFoundError: no plugin that may load offers it.
            PluginLoadError: the plugin that offers it does not work.
            PluginConflictError: several plugins offer it.

        Example:
            >>> try:
            ...     Registry([]).resolve_handler("MLflowLogger")
            ... except ImportError as error:
            ...     print(error)
            no plugin offers the handler 'MLflowLogger'. It comes with glowplug-mlflow: pip install glowplug-mlflow
        """
        return self._resolve("handler", name)

    def resolve_metric(self, name: str) -> Any:
        """Import the metric that a plugin offers under a name.

        Args:
            name: as in ``"Accuracy"``.

        Returns:
            What the plugin's target is, usually a class.

        Raises:
            PluginNotFoundError: no plugin that may load offers it.
            PluginLoadError: the plugin that offers it does not work.
            PluginConflictError: several plugins offer it.

        Example:
            >>> try:
            ...     Registry([]).resolve_metric("Accuracy")
            ... except ImportError as error:
            ...     print(error)
            no plugin offers the metric 'Accuracy'. It comes with glowplug-metrics: pip install glowplug-metrics
        """
        return self._resolve("metric", name)

    def resolve_event(self, name: str) -> Any:
        """Import the event class that a plugin offers under a name.

        Args:
            name: as in ``"BackwardEvents"``.

        Returns:
            What the plugin's target is: an `EventEnum` class.

        Raises:
            PluginNotFoundError: no plugin that may load offers it.
            PluginLoadError: the plugin that offers it does not work.
            PluginConflictError: several plugins offer it.

        Example:
            >>> try:
            ...     Registry([]).resolve_event("BackwardEvents")
            ... except ImportError as error:
            ...     print(error)
            no plugin offers the event 'BackwardEvents'
        """
        return self._resolve("event", name)

    def origin_of(self, value: Any) -> Plugin | None:
        """Say which plugin something comes from.

        Args:
            value: a class, a function, a method or an object.

        Returns:
            The plugin whose offer or package it is, or None: the core's or the user's own.

        Example:
            >>> Registry([]).origin_of(dict) is None
            True
        """
        module = getattr(value, "__module__", None) or ""
        target = f"{module}:{getattr(value, '__qualname__', type(value).__qualname__)}"
        for plugin in self.plugins:
            if any(spec.target == target for spec in plugin.offers):
                return plugin
        for plugin in self.plugins:
            if is_beside(plugin.module, module):
                return plugin
        return None

    def to_scalar(self, value: Any) -> float | None:
        """Ask the plugins for the number that a value of an unknown type stands for.

        Args:
            value: a leaf of an engine's output or metrics.

        Returns:
            The number, or None: no plugin knows the type.

        Example:
            >>> Registry([]).to_scalar(object()) is None
            True
        """
        answer = self._first_answer("glowplug_to_scalar", Real, "a number", value=value)
        return None if answer is None else float(answer)

    def save_handler(self, uri: str) -> Callable[..., Any] | None:
        """Ask the plugins for the save handler of an address.

        Args:
            uri: an address with a scheme, as in ``"s3://bucket/run"``.

        Returns:
            A save handler, or None: no plugin knows the scheme.

        Example:
            >>> Registry([]).save_handler("s3://bucket/run") is None
            True
        """
        return cast(
            "Callable[..., Any] | None",
            self._first_answer("glowplug_save_handler", Callable, "a callable", uri=uri),
        )

    def checks(self) -> Iterator[tuple[Plugin, Check]]:
        """Run the checks that the plugins make of their surroundings.

        Yields:
            The plugin and what it found; a check that fails itself is a finding too.

        Example:
            >>> list(Registry([]).checks())
            []
        """
        for plugin in self.plugins:
            try:
                found = collect(self._manager, plugin.key, "glowplug_doctor", Check)
            except PluginLoadError as error:
                found = (Check(name="its own checks", status="error", message=str(error)),)
            for check in found:
                yield plugin, check

    def _load(self, installed: InstalledPlugin) -> None:
        _loading.active = True
        try:
            self._by_key[installed.key] = load_plugin(installed, self._manager)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 a plugin may call sys.exit, or skip a test, while it is imported
            self._record(PluginFailure(installed.name, installed.distribution, installed.version, error))
        finally:
            _loading.active = False

    def _record(self, failure: PluginFailure) -> None:
        if self._strict:
            raise PluginLoadError(f"{failure} ({STRICT_VARIABLE} is set)") from failure.exception
        self._failures.append(failure)
        trace(f"failed: {failure}")

    def _first_answer(self, hook: str, wanted: Any, description: str, **arguments: Any) -> Any:
        """Return the first answer to a question put to each plugin by itself, so that none can spoil the others'."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        for key in dict.fromkeys(impl.plugin_name for impl in reversed(implementations)):
            try:
                answer = ask_plugin(self._manager, key, hook, **arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 it must not end a run, whatever it is
                problem = PluginLoadError(f"its hook {hook}() failed: {one_line(error)}")
                problem.__cause__ = error
                self._drop(key, problem)
                continue
            if isinstance(answer, wanted):
                return answer
            if answer is not None:
                text = f"its hook {hook}() must return {description} or None; got {show(answer)}"
                self._drop(key, PluginLoadError(text))
        return None

    def _drop(self, key: str, problem: PluginLoadError) -> None:
        """Stop asking a plugin that failed while a run was going on, and say so once."""
        with self._lock:
            if not self._manager.has_plugin(key):
                return
            self._manager.unregister(name=key)
        plugin = self._by_key[key]
        failure = PluginFailure(plugin.name, plugin.distribution, plugin.version, problem)
        self._record(failure)
        warnings.warn(GlowplugPluginWarning(f"{failure}. Its hooks are not called again"), stacklevel=5)

    def _resolve(self, kind: str, name: str) -> Any:
        offers = self._offers[kind].get(name, [])
        sources = [f"{plugin.distribution} {plugin.version}" for plugin, _ in offers]
        trace(f"the {kind} {name} was asked for: {' and '.join(sources) or 'nobody'} offers it")
        if not offers:
            raise explain_missing(kind, name, self._offers, self.blocked, self._failures)
        if len(offers) > 1:
            listed = " and ".join([", ".join(sources[:-1]), sources[-1]])
            others = ",".join(plugin.distribution for plugin, _ in offers[1:])
            raise PluginConflictError(
                f"{listed} {'both' if len(offers) == 2 else 'all'} offer the {kind} {name!r}. Keep one of them: block the"  # noqa: PLR2004 a pair
                f" others, as in GLOWPLUG_DISABLED_PLUGINS={others}, or pip uninstall them"
            )
        return import_target(kind, *offers[0])


_lock = threading.Lock()
_loading = threading.local()
_registry: Registry | None = None


def get_registry() -> Registry:
    """Return the registry of this process; the first call loads the plugins and warns of the faulty ones.

    Returns:
        The registry, the same one each time.

    Raises:
        PluginLoadError: a plugin is faulty and ``GLOWPLUG_STRICT_PLUGINS=1``, or a plugin module asked for the plugins
            while it was being loaded itself.

    Example:
        >>> get_registry() is get_registry()
        True
    """
    if getattr(_loading, "active", False):
        raise PluginLoadError(
            "its module asks for the names of other plugins while it is loaded;"
            " import them inside the function that needs them"
        )
    return _registry or _load_registry()


def _load_registry() -> Registry:
    global _registry  # noqa: PLW0603 the one registry of the process, guarded by the lock
    with _lock:
        if _registry is not None:  # another thread has loaded it meanwhile
            return _registry
        registry = _registry = Registry(installed_plugins(), strict=_is_strict(os.environ))
    registry.warn()
    return registry


@contextmanager
def use_registry(registry: Registry) -> Iterator[Registry]:
    """Put another registry in the place of the process's own one: for tests, and for hosts that choose the plugins.

    Args:
        registry: what `get_registry` returns inside the ``with`` block, in every thread.

    Yields:
        The same registry.

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
    """Ask the installed plugins for the number that a value of an unknown type stands for.

    A plugin that raises, or answers with something else, is warned of once and not asked again.

    Args:
        value: a leaf of an engine's output or metrics.

    Returns:
        The number, or None: no plugin knows the type.

    Example:
        >>> with use_registry(Registry([])):
        ...     to_scalar(object()) is None
        True
    """
    return get_registry().to_scalar(value)


def save_handler(uri: str) -> Callable[..., Any]:
    """Ask the installed plugins for the save handler of an address; for handlers that store files.

    A plugin that raises, or answers with something else, is warned of once and not asked again.

    Args:
        uri: an address with a scheme, as in ``"s3://bucket/run"``.

    Returns:
        A save handler, called as ``handler(checkpoint, filename, metadata)``.

    Raises:
        PluginNotFoundError: no plugin knows the scheme; the text says what to do.

    Example:
        >>> with use_registry(Registry([])):
        ...     try:
        ...         save_handler("s3://bucket/run")
        ...     except ImportError as error:
        ...         print(str(error).partition(":")[0])
        no plugin stores files under an address that begins with s3
    """
    registry = get_registry()
    found = registry.save_handler(uri)
    if found is None:
        raise explain_unknown_scheme(uri, registry.blocked, registry.failures)
    return found


def _index(offers: Iterable[tuple[Plugin, Spec]]) -> dict[str, list[tuple[Plugin, Spec]]]:
    index: dict[str, list[tuple[Plugin, Spec]]] = {}
    for plugin, spec in offers:
        index.setdefault(spec.name, []).append((plugin, spec))
    return index


def _is_strict(environ: Mapping[str, str]) -> bool:
    return is_on(environ.get(STRICT_VARIABLE))
