"""Version of glowplug-mlflow, which the build backend reads from this module."""

__version__ = "0.1.0"
