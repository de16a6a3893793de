"""Atomic checkpoints of models, optimizers and engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports

if TYPE_CHECKING:
    from glowplug_model_checkpoint.checkpoint import Checkpoint, CheckpointEvents
    from glowplug_model_checkpoint.disk_saver import DiskSaver
    from glowplug_model_checkpoint.model_checkpoint import ModelCheckpoint
    from glowplug_model_checkpoint.save_handler import BaseSaveHandler

__all__ = ["BaseSaveHandler", "Checkpoint", "CheckpointEvents", "DiskSaver", "ModelCheckpoint"]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_model_checkpoint.checkpoint": (
            "Checkpoint",
            "CheckpointEvents",
        ),
        "glowplug_model_checkpoint.disk_saver": ("DiskSaver",),
        "glowplug_model_checkpoint.model_checkpoint": ("ModelCheckpoint",),
        "glowplug_model_checkpoint.save_handler": ("BaseSaveHandler",),
    },
)
