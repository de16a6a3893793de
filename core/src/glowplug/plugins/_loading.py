"""How one plugin is loaded: its module is imported, its hooks are checked, and what it offers is collected."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from operator import attrgetter
from reprlib import Repr
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from glowplug import hookspecs
from glowplug.exceptions import PluginIncompatibleError, PluginLoadError
from glowplug.hookspecs import API_VERSION, PROJECT, EventSpec, HandlerSpec, MetricSpec
from glowplug.plugins._settings import trace

if TYPE_CHECKING:
    from types import ModuleType

    from pluggy import HookimplOpts

    from glowplug.plugins._discovery import InstalledPlugin

__all__ = [
    "HOOKS",
    "Plugin",
    "PluginFailure",
    "PluginManager",
    "Spec",
    "ask_plugin",
    "collect",
    "import_target",
    "load_plugin",
    "one_line",
    "show",
]

Spec = HandlerSpec | MetricSpec | EventSpec
"""What a plugin offers under a name."""

_PREFIX = f"{PROJECT}_"
_Item = TypeVar("_Item")

HOOKS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(hook).parameters)
    for name, hook in vars(hookspecs).items()
    if name.startswith(_PREFIX)
}
"""The hooks that a plugin module may implement, and the arguments of each."""


@dataclass(frozen=True)
class Plugin:
    """A plugin that has been loaded.

    Args:
        name: name of its entry point.
        distribution: the distribution that brings it.
        version: version of that distribution.
        module: the name of its plugin module.
        handlers: the handlers that it offers.
        metrics: the metrics that it offers.
        events: the event classes that it offers.
        hooks: the hooks that it implements, sorted.
        import_seconds: how long the import of its module took.

    Example:
        >>> str(
        ...     Plugin(
        ...         name="mlflow",
        ...         distribution="glowplug-mlflow",
        ...         version="0.1.0",
        ...         module="glowplug_mlflow._plugin",
        ...     )
        ... )
        "plugin 'mlflow' of glowplug-mlflow 0.1.0"
    """

    name: str
    distribution: str
    version: str
    module: str
    handlers: tuple[HandlerSpec, ...] = ()
    metrics: tuple[MetricSpec, ...] = ()
    events: tuple[EventSpec, ...] = ()
    hooks: tuple[str, ...] = ()
    import_seconds: float = 0.0

    @property
    def key(self) -> str:
        """Its name among the registered plugins."""
        return f"{self.name} ({self.distribution})"

    @property
    def offers(self) -> tuple[Spec, ...]:
        """All that it offers by name."""
        return (*self.handlers, *self.metrics, *self.events)

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class PluginFailure:
    """A plugin that is installed and does not work.

    Args:
        name: name of its entry point.
        distribution: the distribution that brings it.
        version: version of that distribution.
        exception: what went wrong.

    Example:
        >>> print(PluginFailure("shout", "acme-shout", "1.2", SyntaxError("invalid syntax")))
        plugin 'shout' of acme-shout 1.2 does not work: SyntaxError: invalid syntax. To mend it: pip install --upgrade acme-shout; to do without it: GLOWPLUG_DISABLED_PLUGINS=shout
    """

    name: str
    distribution: str
    version: str
    exception: BaseException

    @property
    def cause(self) -> str:
        """What went wrong, in one line."""
        return one_line(self.exception)

    @property
    def remedy(self) -> str:
        """What to do about it."""
        both = "glowplug " if isinstance(self.exception, PluginIncompatibleError) else ""
        return (
            f"To mend it: pip install --upgrade {both}{self.distribution};"
            f" to do without it: GLOWPLUG_DISABLED_PLUGINS={self.name}"
        )

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} {self.version} does not work: {self.cause}. {self.remedy}"


class PluginManager(pluggy.PluginManager):
    """pluggy's manager with glowplug's hooks; a function of a plugin module named like a hook needs no decorator.

    Example:
        >>> hasattr(PluginManager().hook, "glowplug_handlers")
        True
    """

    def __init__(self) -> None:
        super().__init__(PROJECT)
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        """Accept a decorated function, as pluggy does, and any function that is named like a hook."""
        options = super().parse_hookimpl_opts(plugin, name)
        if options is not None or name not in HOOKS or not inspect.isroutine(getattr(plugin, name)):
            return options
        return {
            "wrapper": False,
            "hookwrapper": False,
            "optionalhook": False,
            "tryfirst": False,
            "trylast": False,
            "specname": None,
        }


def one_line(error: BaseException) -> str:
    """Describe an error in one line.

    Args:
        error: any error; one that glowplug made itself needs no type in front of its text.

    Returns:
        The text, without line breaks.

    Example:
        >>> one_line(SystemExit(3))
        'SystemExit: 3'
    """
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 an error that cannot say what it is must not hide whose it is
        text = "<exception str() failed>"
    return text if isinstance(error, PluginLoadError) else f"{type(error).__name__}: {text}"


def show(value: object) -> str:
    """Describe a value that a plugin gave, whatever its own description does.

    Example:
        >>> show(HandlerSpec), len(show("x" * 1000))
        ("<class 'glowplug.hookspecs.HandlerSpec'>", 120)
    """
    short = Repr()
    short.maxstring = short.maxother = 120
    return short.repr(value)


def load_plugin(installed: InstalledPlugin, manager: PluginManager) -> Plugin:
    """Import a plugin's module, register it and collect what it offers.

    Args:
        installed: a plugin that is not blocked.
        manager: where the module is registered; left without it when anything fails.

    Returns:
        The plugin and its offers.

    Raises:
        BaseException: whatever the module raises while it is imported, `SystemExit` included.
        PluginLoadError: a hook that is unknown, has the wrong arguments, raises, or returns something else.
        PluginIncompatibleError: the module states no ``GLOWPLUG_API``, or another one.

    Example:
        >>> from glowplug.plugins._discovery import InstalledPlugin
        >>> load_plugin(InstalledPlugin("x", "acme-x", "1.0", "acme_no_such_module"), PluginManager())
        Traceback (most recent call last):
        ...
        ModuleNotFoundError: No module named 'acme_no_such_module'
    """
    if installed.problem is not None:
        raise installed.problem
    started = time.perf_counter()
    trace(f"importing {installed.module} of {installed.key}")
    module = import_module(installed.module)
    import_seconds = time.perf_counter() - started
    trace(
        f"imported {installed.module} in {1000 * import_seconds:.1f} ms from {getattr(module, '__file__', None)}"
    )
    _check_api(module)
    _check_hook_names(manager, module)
    _register(manager, module, installed.key)
    try:
        plugin = Plugin(
            name=installed.name,
            distribution=installed.distribution,
            version=installed.version,
            module=installed.module,
            handlers=_collect_specs(manager, installed.key, "glowplug_handlers", HandlerSpec),
            metrics=_collect_specs(manager, installed.key, "glowplug_metrics", MetricSpec),
            events=_collect_specs(manager, installed.key, "glowplug_events", EventSpec),
            hooks=tuple(sorted(caller.name for caller in manager.get_hookcallers(module) or ())),
            import_seconds=import_seconds,
        )
    except BaseException:
        manager.unregister(name=installed.key)
        raise
    offers = ", ".join(f"{spec.name} -> {spec.target}" for spec in plugin.offers)
    trace(
        f"registered {installed.key}: hooks {', '.join(plugin.hooks) or 'none'}; offers {offers or 'nothing'}"
    )
    return plugin


def import_target(kind: str, plugin: Plugin, spec: Spec) -> Any:
    """Import what a plugin offers under a name.

    Args:
        kind: ``"handler"``, ``"metric"`` or ``"event"``.
        plugin: the plugin.
        spec: one of its offers.

    Returns:
        What the target is: something that can be called.

    Raises:
        PluginLoadError: it cannot be imported, is not there, or cannot be called.

    Example:
        >>> plugin = Plugin("math", "acme-math", "1.0", "acme_math._plugin")
        >>> import_target("metric", plugin, MetricSpec("Root", "math:sqrt"))(9)
        3.0
    """
    module, _, attribute = spec.target.partition(":")
    started = time.perf_counter()
    problem: BaseException | None = None
    try:
        value = attrgetter(attribute)(import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 whatever it is, it is the fault of this plugin
        problem = error
    else:
        trace(f"imported {spec.target} in {1000 * (time.perf_counter() - started):.1f} ms")
        if callable(value):
            return value
        problem = PluginLoadError(f"its target {spec.target} is {show(value)}, which cannot be called")
    failure = PluginFailure(plugin.name, plugin.distribution, plugin.version, problem)
    trace(f"failed: {failure}")
    raise PluginLoadError(f"the {kind} {spec.name!r} cannot be used: {failure}") from problem


def ask_plugin(manager: PluginManager, key: str, hook: str, **arguments: Any) -> Any:
    """Call one hook of one plugin.

    Args:
        manager: where the plugin's module is registered.
        key: the plugin's name there.
        hook: name of the hook.
        **arguments: the hook's arguments.

    Returns:
        What pluggy's call gives for this plugin alone: its answer for a ``firstresult`` hook, else a list of answers.

    Example:
        >>> ask_plugin(PluginManager(), "x", "glowplug_to_scalar", value=1) is None
        True
    """
    others = [plugin for name, plugin in manager.list_name_plugin() if name != key]
    return manager.subset_hook_caller(hook, remove_plugins=others)(**arguments)


def collect(manager: PluginManager, key: str, hook: str, item_type: type[_Item]) -> tuple[_Item, ...]:
    """Call a hook of one plugin that returns several items, and check them.

    Args:
        manager: where the plugin's module is registered.
        key: the plugin's name there.
        hook: name of the hook.
        item_type: what each item has to be.

    Returns:
        The items; none where the plugin does not implement the hook.

    Raises:
        PluginLoadError: the hook raised, or returned something else.

    Example:
        >>> collect(PluginManager(), "x", "glowplug_handlers", HandlerSpec)
        ()
    """
    implemented = any(impl.plugin_name == key for impl in getattr(manager.hook, hook).get_hookimpls())
    if not implemented:
        return ()
    try:
        answers = ask_plugin(manager, key, hook)
        answer = answers[0] if answers else None
        items = None if answer is None or isinstance(answer, str) else tuple(answer)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginLoadError(f"its hook {hook}() failed: {one_line(error)}") from error
    wrong = [item for item in items or () if not isinstance(item, item_type)]
    if items is None or wrong:
        got = show(wrong[0]) if wrong else show(answer)
        raise PluginLoadError(f"its hook {hook}() must return a list of {item_type.__name__}; got {got}")
    return items


def _check_api(module: ModuleType) -> None:
    stated = getattr(module, "GLOWPLUG_API", None)
    if stated is None:
        raise PluginIncompatibleError(
            f"its module {module.__name__} does not say for which hooks it is written;"
            f" add GLOWPLUG_API = {API_VERSION}"
        )
    if stated != API_VERSION:
        raise PluginIncompatibleError(
            f"its module {module.__name__} states GLOWPLUG_API = {stated!r}; this core has version {API_VERSION}"
        )


def _check_hook_names(manager: PluginManager, module: ModuleType) -> None:
    """Refuse what looks like a hook and would never be called; pluggy alone sees decorated functions only."""
    for name, value in sorted(vars(module).items()):
        options = manager.parse_hookimpl_opts(module, name)
        hook = (options and options.get("specname")) or name
        if options is not None and options.get("optionalhook"):
            continue
        is_own_function = inspect.isfunction(value) and value.__module__ == module.__name__
        if hook in HOOKS and options is None:
            raise PluginLoadError(f"its {hook} must be a function; got {show(value)}")
        if hook in HOOKS and inspect.iscoroutinefunction(value):
            raise PluginLoadError(f"its hook {hook} is async; write def {_signature(hook)}")
        if hook not in HOOKS and (options is not None or (name.startswith(_PREFIX) and is_own_function)):
            raise PluginLoadError(f"it has an unknown hook {hook}(){_did_you_mean(hook)}")


def _register(manager: PluginManager, module: ModuleType, name: str) -> None:
    taken = manager.get_name(module)
    if taken is not None:
        raise PluginLoadError(f"its module {module.__name__} is that of plugin {taken} as well")
    try:
        manager.register(module, name)
    except pluggy.PluginValidationError as error:
        manager.unregister(name=name)  # older versions of pluggy keep a part of it
        signatures = ", ".join(_signature(hook) for hook in HOOKS if hook in str(error))
        cause = " ".join(str(error).splitlines()[-1:])
        raise PluginLoadError(
            f"a hook of it has the wrong signature: {cause}; write def {signatures}"
        ) from error


def _collect_specs(manager: PluginManager, key: str, hook: str, spec: type[_Item]) -> tuple[_Item, ...]:
    items = collect(manager, key, hook, spec)
    names = [item.name for item in items if isinstance(item, Spec)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PluginLoadError(f"its hook {hook}() offers {', '.join(twice)} more than once")
    return items


def _signature(hook: str) -> str:
    return f"{hook}({', '.join(HOOKS[hook])})"


def _did_you_mean(hook: str) -> str:
    endings = [known.removeprefix(_PREFIX) for known in HOOKS]
    matches = get_close_matches(hook.removeprefix(_PREFIX), endings, n=1)
    if matches:
        return f"; did you mean {_signature(_PREFIX + matches[0])}?"
    return f"; the hooks are {', '.join(sorted(HOOKS))}"
