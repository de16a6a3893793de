"""Discovery of the installed plugins from metadata, without importing any plugin."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from glowplug._version import __version__
from glowplug.exceptions import PluginIncompatibleError, PluginLoadError
from glowplug.plugins._settings import blocking_setting, canonical, is_tracing, trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from importlib.metadata import Distribution, EntryPoint

__all__ = [
    "GROUP",
    "InstalledPlugin",
    "PluginIdentity",
    "describe_entry_points",
    "installed_plugins",
    "is_beside",
]

PROJECT = "glowplug"
"""Name of the core distribution."""

GROUP = "glowplug"
"""Entry-point group of plugins; the name of an entry point is the plugin's name, and the value is a module."""


@dataclass(frozen=True)
class PluginIdentity:
    """Base class of plugin descriptions, with the fields that identify a plugin.

    Args:
        name: Name of the entry point.
        distribution: Distribution that provides the plugin.
        version: Version of that distribution.

    Example:
        >>> print(PluginIdentity("mlflow", "glowplug-mlflow", "0.1.0"))
        plugin 'mlflow' of glowplug-mlflow 0.1.0
    """

    name: str
    distribution: str
    version: str

    @property
    def key(self) -> str:
        """Name such as ``shout (acme-shout)``, which is unique even if two distributions use the same plugin name."""
        return f"{self.name} ({self.distribution})"

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


@dataclass(frozen=True)
class InstalledPlugin(PluginIdentity):
    """Description of an installed plugin, read from its metadata.

    Args:
        name: Name of the entry point.
        distribution: Distribution that provides the plugin.
        version: Version of that distribution.
        module: Module to import; empty if the metadata is damaged.
        blocked_by: Setting that blocks the plugin; empty if no setting blocks the plugin.
        problem: Exception that describes why the metadata prevents loading; ``None`` if nothing prevents loading.

    Example:
        >>> plugin = InstalledPlugin("mlflow", "glowplug-mlflow", "0.1.0", "glowplug_mlflow._plugin")
        >>> plugin.loadable
        True
    """

    module: str = ""
    blocked_by: str = ""
    problem: Exception | None = field(default=None, compare=False)

    @property
    def loadable(self) -> bool:
        """Whether no setting blocks the plugin, and its metadata has no problem."""
        return not self.blocked_by and self.problem is None


def installed_plugins(environ: Mapping[str, str] = os.environ) -> list[InstalledPlugin]:
    """List the plugins installed in this environment, sorted by name and distribution.

    Args:
        environ: Environment variables that contain the settings. Defaults to ``os.environ``.

    Returns:
        One item per plugin, including those that are blocked, incompatible or damaged.

    Example:
        >>> [plugin.name for plugin in installed_plugins({"GLOWPLUG_PLUGINS": ""}) if plugin.loadable]
        []
    """
    entry_points: list[EntryPoint] = []
    damaged: list[InstalledPlugin] = []
    trace(f"looking for entry points of the group {GROUP!r} in the {len(sys.path)} folders of sys.path")
    for distribution in _distributions():
        try:
            entry_points.extend(distribution.entry_points.select(group=GROUP))
        except Exception as error:  # noqa: BLE001 a damaged file must not hide other plugins
            name, version = _identity(distribution)
            blocked_by = blocking_setting(environ, name, name)
            problem = None if blocked_by else PluginLoadError(f"entry_points.txt is damaged: {error}")
            damaged.append(InstalledPlugin(name, name, version, blocked_by=blocked_by, problem=problem))
            trace(f"{'blocked' if blocked_by else 'refused'} {name} {version}: {blocked_by or problem}")
    return _sorted([*describe_entry_points(entry_points, environ), *damaged])


def describe_entry_points(
    entry_points: Iterable[EntryPoint], environ: Mapping[str, str] = os.environ
) -> list[InstalledPlugin]:
    """Describe the plugins of the given entry points.

    Args:
        entry_points: Entry points. The attribute ``dist`` of an entry point identifies its distribution.
        environ: Environment variables that contain the settings. Defaults to ``os.environ``.

    Returns:
        One item per entry point, sorted by name and distribution.

    Example:
        >>> from importlib.metadata import EntryPoint
        >>> describe_entry_points([EntryPoint("shout", "acme_shout._plugin", "glowplug")], {})[0].module
        'acme_shout._plugin'
    """
    return _sorted(_describe(entry_point, environ) for entry_point in entry_points)


def is_beside(plugin_module: str, module: str) -> bool:
    """Return whether ``module`` belongs to the package that contains ``plugin_module``.

    Example:
        >>> is_beside("acme_shout._plugin", "acme_shout.handler"), is_beside("acme._plugin", "acme_shout")
        (True, False)
    """
    package = plugin_module.rpartition(".")[0] or plugin_module
    return f"{module}.".startswith(f"{package}.")


def _sorted(plugins: Iterable[InstalledPlugin]) -> list[InstalledPlugin]:
    return sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution))


def _distributions() -> Iterator[Distribution]:
    """Yield the distributions that have plugins; of several with the same name, yield only the first in ``sys.path``."""
    seen: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        try:
            mentions_group = f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or "")
        except UnicodeDecodeError:
            mentions_group = any(_core_requirements(distribution))
        if not mentions_group:
            if is_tracing():
                _trace_without_group(distribution)
            continue
        name = canonical(_identity(distribution)[0])
        if name not in seen:
            seen[name] = _place(distribution)
            yield distribution
        # The same folder may be in sys.path twice.
        elif _place(distribution) != seen[name]:
            trace(f"ignored {_place(distribution)}: {seen[name]} precedes it in sys.path")


def _trace_without_group(distribution: Distribution) -> None:
    """Print a trace line for a distribution that requires the core but has no plugin.

    The name of the entry-point group may be misspelt in this distribution.
    """
    # Do not report damaged metadata of distributions that have no plugin.
    with suppress(Exception):
        name = canonical(_identity(distribution)[0])
        if name != PROJECT and any(_core_requirements(distribution)):
            groups = sorted({entry_point.group for entry_point in distribution.entry_points})
            trace(
                f"{_place(distribution)} requires {PROJECT} and has no entry point in the group {GROUP!r};"
                f" its groups: {', '.join(groups) or 'none'}"
            )


def _place(distribution: Distribution) -> str:
    return " ".join([*_identity(distribution), f"in {Path(str(distribution.locate_file(''))).absolute()}"])


def _trace_found(plugin: InstalledPlugin, distribution: Distribution | None) -> None:
    source = plugin.distribution if distribution is None else _place(distribution)
    trace(f"found {plugin.name} = {plugin.module!r} of {source}")
    if plugin.blocked_by:
        trace(f"blocked {plugin.key}: {plugin.blocked_by}")
    elif plugin.problem is not None:
        trace(f"refused {plugin.key}: {plugin.problem}")
    else:
        needs = ", ".join(_core_requirements(distribution)) if distribution is not None else ""
        trace(
            f"accepted {plugin.key}: it requires {needs or 'no particular core version'}, and {PROJECT} {__version__} is installed"
        )


def _describe(entry_point: EntryPoint, environ: Mapping[str, str]) -> InstalledPlugin:
    distribution = entry_point.dist
    name, version = ("unknown distribution", "?") if distribution is None else _identity(distribution)
    blocked_by = blocking_setting(environ, entry_point.name, name)
    plugin = InstalledPlugin(entry_point.name, name, version, entry_point.value.strip(), blocked_by)
    if not blocked_by:
        plugin = replace(plugin, problem=_problem(plugin, distribution))
    if is_tracing():
        _trace_found(plugin, distribution)
    return plugin


def _problem(plugin: InstalledPlugin, distribution: Distribution | None) -> Exception | None:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", plugin.module):
        return PluginLoadError(
            f'the entry point must name a module, as in {plugin.name} = "acme_shout._plugin"; got {plugin.module!r}'
        )
    if distribution is None:
        return None
    try:
        if not {"Name", "Version"} <= set(distribution.metadata):
            return PluginLoadError("the METADATA file lacks the field Name or Version")
        return _mismatch(distribution)
    except Exception as error:  # noqa: BLE001 a damaged file must not hide other plugins
        return PluginLoadError(f"the METADATA file is damaged: {type(error).__name__}: {error}")


def _mismatch(distribution: Distribution) -> PluginIncompatibleError | None:
    """Return an error if the distribution requires another version of the core, otherwise ``None``."""
    from packaging.requirements import Requirement

    for text in _core_requirements(distribution):
        requirement = Requirement(text)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(__version__, prereleases=True):
            return PluginIncompatibleError(
                f"the plugin requires {requirement}, but {PROJECT} {__version__} is installed"
            )
    return None


def _core_requirements(distribution: Distribution) -> list[str]:
    pattern = re.compile(rf"{PROJECT}\s*($|[^\w.\s-])", re.IGNORECASE)
    return list(filter(pattern.match, distribution.requires or []))


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Return the name and version of a distribution, read from RECORD if METADATA is damaged."""
    name = version = None
    # The exception for a missing or damaged file depends on the Python version.
    with suppress(Exception):
        metadata = distribution.metadata
        name, version = ((metadata.get_all(field) or [None])[0] for field in ("Name", "Version"))
    if name is None or version is None:
        record = ""
        with suppress(UnicodeDecodeError):
            record = distribution.read_text("RECORD") or ""
        folder = re.search(r"^(?P<name>[^/\n-]+)-(?P<version>[^/\n]+)\.dist-info/", record, re.MULTILINE)
        name = name or (folder["name"].replace("_", "-") if folder else "unknown distribution")
        version = version or (folder["version"] if folder else "?")
    return name, version
