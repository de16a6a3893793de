"""pytest plugin: fixtures of ``glowplug.testing``, and assertion rewriting for the contract tests."""

from __future__ import annotations

import pytest

# Register before the import: pytest warns if a conftest.py requests a plugin that was imported without assertion rewriting.
pytest.register_assert_rewrite("glowplug_testing", "glowplug.testing.pytest_plugin")

from glowplug.testing.pytest_plugin import fake_engine, plugin_manager  # noqa: E402

__all__ = ["fake_engine", "plugin_manager"]
