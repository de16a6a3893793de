"""pytest plugin: fixtures of ``glowplug.testing`` and assertion rewriting of the contracts."""

from __future__ import annotations

import pytest

from glowplug.testing.pytest_plugin import fake_engine, plugin_manager

__all__ = ["fake_engine", "plugin_manager"]

pytest.register_assert_rewrite("glowplug_testing")
