"""Fixtures for tests of handlers and plugins.

Installing ``glowplug-testing`` activates these fixtures. If ``glowplug-testing`` is not installed, set
``pytest_plugins = "glowplug.testing.pytest_plugin"`` in a test file or in the topmost ``conftest.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from glowplug.plugins import InstalledPlugin, Plugin, Registry, use_registry
from glowplug.testing.fake_engine import FakeEngine

__all__ = ["LocalRegistry", "fake_engine", "plugin_manager"]


class LocalRegistry(Registry):
    """Plugin registry that contains only the plugins registered by a test.

    Example:
        >>> from types import ModuleType
        >>> from glowplug.hookspecs import Offer
        >>> module = ModuleType("acme_shout._plugin")
        >>> module.GLOWPLUG_API = 1
        >>> module.glowplug_offers = lambda: [Offer("Shout", "acme_shout.handler:Shout")]
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
        """Load a plugin from its module.

        Args:
            module: The plugin module, or a ``types.ModuleType`` that the test creates.
            name: Name of the plugin. Defaults to the package name, with hyphens instead of underscores.

        Returns:
            The plugin with its offers.

        Raises:
            PluginLoadError: If the plugin is faulty.
        """
        if module.__name__ not in sys.modules:
            sys.modules[module.__name__] = module
            self._added.append(module.__name__)
        name = name or module.__name__.partition(".")[0].replace("_", "-")
        installed = InstalledPlugin(name, f"{name} of this test", "0", module.__name__)
        # Reload all plugins, because the constructor builds the index of offers.
        super().__init__([*self._local, installed], strict=True)
        self._local.append(installed)
        return next(plugin for plugin in self.plugins if plugin.key == installed.key)

    def forget(self) -> None:
        """Remove from ``sys.modules`` the modules that :meth:`register` added."""
        for name in self._added:
            sys.modules.pop(name, None)


@pytest.fixture
def fake_engine() -> FakeEngine:
    """Return a new ``FakeEngine``.

    Example:
        >>> from glowplug import Events
        >>> def test_epochs_are_seen(fake_engine):
        ...     seen = []
        ...     fake_engine.add_event_handler(
        ...         Events.EPOCH_COMPLETED, lambda engine: seen.append(engine.state.epoch)
        ...     )
        ...     fake_engine.fire(Events.EPOCH_COMPLETED, epoch=3)
        ...     assert seen == [3]
    """
    return FakeEngine()


@pytest.fixture
def plugin_manager() -> Iterator[LocalRegistry]:
    """Return an empty plugin registry that replaces the process-wide registry during the test.

    Example:
        >>> from types import ModuleType
        >>> from glowplug.hookspecs import Offer
        >>> from glowplug.plugins import get_registry
        >>> def test_offer_is_found(plugin_manager):
        ...     module = ModuleType("acme_shout._plugin")
        ...     module.GLOWPLUG_API = 1
        ...     module.glowplug_offers = lambda: [Offer("Shout", "acme_shout.handler:Shout")]
        ...     plugin_manager.register(module)
        ...     assert get_registry().names("handler") == ["Shout"]
    """
    registry = LocalRegistry()
    with use_registry(registry):
        yield registry
    registry.forget()
