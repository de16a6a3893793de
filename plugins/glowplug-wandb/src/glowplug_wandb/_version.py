"""Version of glowplug-wandb, which the build backend reads from this module."""

__version__ = "0.1.0"
