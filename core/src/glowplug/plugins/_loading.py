"""Loading of one plugin: import, hook checks and offers."""

from __future__ import annotations

import inspect
import time
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from operator import attrgetter
from reprlib import Repr
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import pluggy

from glowplug import hookspecs
from glowplug.exceptions import PluginIncompatibleError, PluginLoadError
from glowplug.hookspecs import API_VERSION, PROJECT, Offer, OfferKind
from glowplug.plugins._discovery import PluginIdentity
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
    "ask_plugin",
    "collect",
    "describe_error",
    "import_target",
    "load_plugin",
    "namespace_of",
    "show",
]

_PREFIX = f"{PROJECT}_"
_Item = TypeVar("_Item")

HOOKS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(hook).parameters)
    for name, hook in vars(hookspecs).items()
    if name.startswith(_PREFIX)
}
"""The hooks that a plugin module may implement, each with the names of its arguments."""


@dataclass(frozen=True)
class Plugin(PluginIdentity):
    """A loaded plugin.

    Args:
        name: Name of the entry point.
        distribution: Distribution that provides the plugin.
        version: Version of that distribution.
        module: Name of the plugin module.
        offers: Names that the plugin provides.
        hooks: Sorted names of the hooks that the plugin implements.
        import_seconds: Number of seconds that the import of the plugin module took.

    Example:
        >>> print(Plugin("mlflow", "glowplug-mlflow", "0.1.0", "glowplug_mlflow._plugin"))
        plugin 'mlflow' of glowplug-mlflow 0.1.0
    """

    module: str
    offers: tuple[Offer, ...] = ()
    hooks: tuple[str, ...] = ()
    import_seconds: float = 0.0


@dataclass(frozen=True)
class PluginFailure(PluginIdentity):
    """An installed plugin that is faulty.

    Args:
        name: Name of the entry point.
        distribution: Distribution that provides the plugin.
        version: Version of that distribution.
        exception: Exception that the plugin raised or caused.

    Example:
        >>> print(PluginFailure("shout", "acme-shout", "1.2", SyntaxError("invalid syntax")))
        plugin 'shout' of acme-shout 1.2 does not work: SyntaxError: invalid syntax. To fix it: pip install --upgrade acme-shout; to disable it: GLOWPLUG_DISABLED_PLUGINS=shout
    """

    exception: BaseException

    @property
    def cause(self) -> str:
        """One-line description of the exception."""
        return describe_error(self.exception)

    @property
    def remedy(self) -> str:
        """Commands and settings with which the user can fix or disable the plugin."""
        both = "glowplug " if isinstance(self.exception, PluginIncompatibleError) else ""
        return (
            f"To fix it: pip install --upgrade {both}{self.distribution};"
            f" to disable it: GLOWPLUG_DISABLED_PLUGINS={self.name}"
        )

    def error(self, message: str) -> PluginLoadError:
        """Return an error with this message and with attributes that name the plugin, the distribution and the hook."""
        hook = getattr(self.exception, "hook", None)
        return PluginLoadError(message, plugin=self.name, distribution=self.distribution, hook=hook)

    def __str__(self) -> str:
        return f"{super().__str__()} does not work: {self.cause}. {self.remedy}"


class PluginManager(pluggy.PluginManager):
    """Plugin manager with glowplug's hooks.

    A function with the name of a hook counts as an implementation, even without the ``hookimpl`` decorator.

    Example:
        >>> hasattr(PluginManager().hook, "glowplug_offers")
        True
    """

    def __init__(self) -> None:
        super().__init__(PROJECT)
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        """Return the hook options of a decorated function, or of an undecorated function with the name of a hook."""
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


def namespace_of(kind: str) -> str:
    """Return the namespace to which a kind of offer belongs.

    The namespaces are ``"handler"``, ``"metric"`` and ``"event"``; loggers, log handlers, save handlers, policies and
    filters belong to ``"handler"``.

    Raises:
        ValueError: If the kind is unknown.

    Example:
        >>> namespace_of("logger"), namespace_of("metric")
        ('handler', 'metric')
    """
    if kind not in get_args(OfferKind):
        raise ValueError(f"kind must be one of {', '.join(map(repr, get_args(OfferKind)))}; got {kind!r}")
    return kind if kind in {"metric", "event"} else "handler"


def describe_error(error: BaseException) -> str:
    """Describe an error in one line.

    Args:
        error: Any error.

    Returns:
        The type and message of the error, without line breaks. For a ``PluginLoadError``, only the message.

    Example:
        >>> describe_error(SystemExit(3))
        'SystemExit: 3'
    """
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 a broken __str__ must not hide which plugin failed
        text = "<exception str() failed>"
    return text if isinstance(error, PluginLoadError) else f"{type(error).__name__}: {text}"


def show(value: object) -> str:
    """Return a short description of a value from a plugin, even if the value's ``repr`` fails.

    Example:
        >>> show(Offer), len(show("x" * 1000))
        ("<class 'glowplug.hookspecs.Offer'>", 120)
    """
    short = Repr()
    short.maxstring = short.maxother = 120
    return short.repr(value)


def load_plugin(installed: InstalledPlugin, manager: PluginManager) -> Plugin:
    """Import a plugin's module, register it and collect its offers.

    Args:
        installed: A plugin that is not blocked.
        manager: Manager with which the module is registered. If loading fails, the manager is not changed.

    Returns:
        The plugin and its offers.

    Raises:
        BaseException: Any exception that the module raises when it is imported, including ``SystemExit``.
        PluginLoadError: If the metadata is damaged, or if another plugin uses the same module. The error is also raised if a
            hook is unknown or has the wrong signature, and if ``glowplug_offers`` raises an exception or returns a wrong value.
        PluginIncompatibleError: If the plugin requires another version of glowplug, or if the plugin module does not set
            ``GLOWPLUG_API`` to the API version of this core.

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
            offers=_collect_offers(manager, installed.key),
            hooks=tuple(sorted(caller.name for caller in manager.get_hookcallers(module) or ())),
            import_seconds=import_seconds,
        )
    except BaseException:
        manager.unregister(name=installed.key)
        raise
    offers = ", ".join(f"{offer.name} -> {offer.target}" for offer in plugin.offers)
    trace(
        f"registered {installed.key}: hooks {', '.join(plugin.hooks) or 'none'}; offers {offers or 'nothing'}"
    )
    return plugin


def import_target(plugin: Plugin, offer: Offer) -> Any:
    """Import the target of an offer.

    Args:
        plugin: The plugin.
        offer: One of its offers.

    Returns:
        The target, which is callable.

    Raises:
        PluginLoadError: If the target cannot be imported, does not exist or is not callable.

    Example:
        >>> plugin = Plugin("math", "acme-math", "1.0", "acme_math._plugin")
        >>> import_target(plugin, Offer("Root", "math:sqrt", kind="metric"))(9)
        3.0
    """
    module, _, attribute = offer.target.partition(":")
    started = time.perf_counter()
    problem: BaseException | None = None
    try:
        value = attrgetter(attribute)(import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 any exception is a fault of the plugin
        problem = error
    else:
        trace(f"imported {offer.target} in {1000 * (time.perf_counter() - started):.1f} ms")
        if callable(value):
            return value
        problem = PluginLoadError(
            f"the target {offer.target} of the offer {offer.name!r} is {show(value)}, which is not callable"
        )
    failure = PluginFailure(plugin.name, plugin.distribution, plugin.version, problem)
    trace(f"failed: {failure}")
    raise failure.error(f"the {offer.kind} {offer.name!r} cannot be used: {failure}") from problem


def ask_plugin(manager: PluginManager, key: str, hook: str, **arguments: Any) -> Any:
    """Call one hook of one plugin.

    Args:
        manager: Manager with which the plugin's module is registered.
        key: Key of the plugin in the manager.
        hook: Name of the hook.
        **arguments: The hook's arguments.

    Returns:
        The plugin's answer if the hook is a ``firstresult`` hook of pluggy, otherwise a list of answers.

    Example:
        >>> ask_plugin(PluginManager(), "x", "glowplug_to_scalar", value=1) is None
        True
    """
    others = [plugin for name, plugin in manager.list_name_plugin() if name != key]
    return manager.subset_hook_caller(hook, remove_plugins=others)(**arguments)


def collect(manager: PluginManager, key: str, hook: str, item_type: type[_Item]) -> tuple[_Item, ...]:
    """Call a hook that returns a list, and check the type of the items in the list.

    Args:
        manager: Manager with which the plugin's module is registered.
        key: Key of the plugin in the manager.
        hook: Name of the hook.
        item_type: The required type of each item.

    Returns:
        A tuple of the items, which is empty if the plugin does not implement the hook.

    Raises:
        PluginLoadError: If the hook raises an exception, or if the hook does not return a list of ``item_type`` objects.

    Example:
        >>> collect(PluginManager(), "x", "glowplug_offers", Offer)
        ()
    """
    if key not in {impl.plugin_name for impl in getattr(manager.hook, hook).get_hookimpls()}:
        return ()
    try:
        answers = ask_plugin(manager, key, hook)
        answer = answers[0] if answers else None
        items = None if answer is None or isinstance(answer, str) else tuple(answer)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginLoadError(f"the hook {hook}() failed: {describe_error(error)}", hook=hook) from error
    wrong = [item for item in items or () if not isinstance(item, item_type)]
    if items is None or wrong:
        got = f"the item {show(wrong[0])}" if wrong else show(answer)
        raise PluginLoadError(
            f"the hook {hook}() must return a list of {item_type.__name__} objects; got {got}", hook=hook
        )
    return items


def _check_api(module: ModuleType) -> None:
    stated = getattr(module, "GLOWPLUG_API", None)
    if stated is None:
        raise PluginIncompatibleError(
            f"the module {module.__name__} does not set GLOWPLUG_API; add GLOWPLUG_API = {API_VERSION}"
        )
    if stated != API_VERSION:
        raise PluginIncompatibleError(
            f"the module {module.__name__} sets GLOWPLUG_API = {stated!r}, but the installed glowplug requires {API_VERSION}"
        )


def _check_hook_names(manager: PluginManager, module: ModuleType) -> None:
    """Raise an error if the module has a function that looks like a hook but would never be called."""
    for name, value in sorted(vars(module).items()):
        options = manager.parse_hookimpl_opts(module, name)
        hook = (options and options.get("specname")) or name
        if options is not None and options.get("optionalhook"):
            continue
        is_own_function = inspect.isfunction(value) and value.__module__ == module.__name__
        problem = ""
        if hook in HOOKS and options is None:
            problem = f"the hook {hook} must be a function; got {show(value)}"
        elif hook in HOOKS and inspect.iscoroutinefunction(value):
            problem = f"the hook {hook} is async; write def {_signature(hook)}"
        elif hook not in HOOKS and (options is not None or (name.startswith(_PREFIX) and is_own_function)):
            problem = _describe_unknown_hook(hook)
        if problem:
            raise PluginLoadError(problem, hook=hook)


def _register(manager: PluginManager, module: ModuleType, name: str) -> None:
    taken = manager.get_name(module)
    if taken is not None:
        raise PluginLoadError(f"the module {module.__name__} also belongs to plugin {taken}")
    try:
        manager.register(module, name)
    except pluggy.PluginValidationError as error:
        # Older versions of pluggy leave the plugin partly registered.
        manager.unregister(name=name)
        signatures = ", ".join(_signature(hook) for hook in HOOKS if hook in str(error))
        cause = " ".join(str(error).splitlines()[-1:])
        raise PluginLoadError(f"a hook has the wrong signature: {cause}; write def {signatures}") from error


def _collect_offers(manager: PluginManager, key: str) -> tuple[Offer, ...]:
    hook = "glowplug_offers"
    offers = collect(manager, key, hook, Offer)
    names = Counter((namespace_of(offer.kind), offer.name) for offer in offers)
    twice = sorted({name for (_, name), count in names.items() if count > 1})
    if twice:
        raise PluginLoadError(f"the hook {hook}() offers {', '.join(twice)} more than once", hook=hook)
    return offers


def _signature(hook: str) -> str:
    return f"{hook}({', '.join(HOOKS[hook])})"


def _describe_unknown_hook(hook: str) -> str:
    endings = [known.removeprefix(_PREFIX) for known in HOOKS]
    matches = get_close_matches(hook.removeprefix(_PREFIX), endings, n=1)
    hint = (
        f"did you mean {_signature(_PREFIX + matches[0])}?"
        if matches
        else f"the hooks are {', '.join(sorted(HOOKS))}"
    )
    return f"the plugin has an unknown hook {hook}(); {hint}"
