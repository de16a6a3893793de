"""Weights & Biases logger for glowplug engines."""

from acme_glowplug_wandb.logger import WandbLogger

__all__ = ["WandbLogger"]
