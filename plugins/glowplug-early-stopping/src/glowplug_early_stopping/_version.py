"""Version of glowplug-early-stopping, which the build backend reads from this module."""

__version__ = "0.1.0"
