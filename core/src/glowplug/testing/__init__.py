"""What tests of handlers, loggers and metrics are made of."""

from glowplug.testing.fake_engine import FakeEngine

__all__ = ["FakeEngine"]
