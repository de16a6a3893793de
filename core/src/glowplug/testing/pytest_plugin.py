"""Fixtures for tests of handlers and plugins: ``pytest_plugins = "glowplug.testing.pytest_plugin"``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from glowplug.plugins import Registry, use_registry
from glowplug.plugins._discovery import InstalledPlugin
from glowplug.plugins._loading import Plugin
from glowplug.testing.fake_engine import FakeEngine

__all__ = ["LocalRegistry", "fake_engine", "plugin_manager"]


class LocalRegistry(Registry):
    """The plugins that a test registers, and none of those that happen to be installed.

    Example:
        >>> from types import ModuleType
        >>> from glowplug.hookspecs import HandlerSpec
        >>> module = ModuleType("acme_shout._plugin")
        >>> module.GLOWPLUG_API = 1
        >>> module.glowplug_handlers = lambda: [HandlerSpec(name="Shout", target="acme_shout.handler:Shout")]
        >>> registry = LocalRegistry()
        >>> registry.register(module).name
        'acme-shout'
        >>> registry.names("handler")
        ['Shout']
        >>> registry.forget()
    """

    def __init__(self) -> None:
        self._local: list[InstalledPlugin] = []
        self._added: list[str] = []
        super().__init__([], strict=True)

    def register(self, module: ModuleType, name: str | None = None) -> Plugin:
        """Load a plugin from its module, as discovery would.

        Args:
            module: the plugin module; one that was made by hand will do.
            name: the plugin's name; by default that of the package, with hyphens.

        Returns:
            The plugin, with what it offers.

        Raises:
            PluginLoadError: the plugin is faulty; the text says what discovery would warn of.
        """
        if module.__name__ not in sys.modules:
            sys.modules[module.__name__] = module
            self._added.append(module.__name__)
        name = name or module.__name__.partition(".")[0].replace("_", "-")
        installed = InstalledPlugin(name, f"{name} of this test", "0", module.__name__)
        super().__init__(
            [*self._local, installed], strict=True
        )  # what offers what is found out for all at once
        self._local.append(installed)
        return next(plugin for plugin in self.plugins if plugin.key == installed.key)

    def forget(self) -> None:
        """Take the modules that were made by hand out of ``sys.modules``."""
        for name in self._added:
            sys.modules.pop(name, None)


@pytest.fixture
def fake_engine() -> FakeEngine:
    """Return a new ``FakeEngine``: ``fake_engine.fire(Events.EPOCH_COMPLETED, epoch=3, metrics={...})``."""
    return FakeEngine()


@pytest.fixture
def plugin_manager() -> Iterator[LocalRegistry]:
    """Return the registry of this process while the test runs: empty until ``plugin_manager.register(module)``."""
    registry = LocalRegistry()
    with use_registry(registry):
        yield registry
    registry.forget()
