"""Fixtures for tests that open the site in a browser."""

from browser import browser, eventually  # noqa: F401 - fixtures
