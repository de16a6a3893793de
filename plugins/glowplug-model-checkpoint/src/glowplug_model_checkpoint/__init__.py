"""Checkpoints of models, optimizers and engines, saved atomically and verified by digests."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_model_checkpoint._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_model_checkpoint.checkpoint import Checkpoint, CheckpointEvents
    from glowplug_model_checkpoint.disk_saver import DiskSaver
    from glowplug_model_checkpoint.fsspec_saver import FsspecSaver
    from glowplug_model_checkpoint.model_checkpoint import ModelCheckpoint
    from glowplug_model_checkpoint.policies import KeepBest, KeepEvery, KeepLast, Policy
    from glowplug_model_checkpoint.safetensors_saver import SafetensorsSaver
    from glowplug_model_checkpoint.save_handler import BaseSaveHandler
    from glowplug_model_checkpoint.saved import Saved
    from glowplug_model_checkpoint.sealing import DamagedCheckpointError
    from glowplug_model_checkpoint.sharded_saver import ShardedSaver
    from glowplug_model_checkpoint.timing import Every

__all__ = [
    "BaseSaveHandler",
    "Checkpoint",
    "CheckpointEvents",
    "DamagedCheckpointError",
    "DiskSaver",
    "Every",
    "FsspecSaver",
    "KeepBest",
    "KeepEvery",
    "KeepLast",
    "ModelCheckpoint",
    "Policy",
    "SafetensorsSaver",
    "Saved",
    "ShardedSaver",
]

# Loading the plugin imports this package. To keep loading fast, each module is imported only when one of its names is used.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "glowplug_model_checkpoint.checkpoint": (
            "Checkpoint",
            "CheckpointEvents",
        ),
        "glowplug_model_checkpoint.sealing": ("DamagedCheckpointError",),
        "glowplug_model_checkpoint.disk_saver": ("DiskSaver",),
        "glowplug_model_checkpoint.fsspec_saver": ("FsspecSaver",),
        "glowplug_model_checkpoint.model_checkpoint": ("ModelCheckpoint",),
        "glowplug_model_checkpoint.policies": ("KeepBest", "KeepEvery", "KeepLast", "Policy"),
        "glowplug_model_checkpoint.safetensors_saver": ("SafetensorsSaver",),
        "glowplug_model_checkpoint.save_handler": ("BaseSaveHandler",),
        "glowplug_model_checkpoint.saved": ("Saved",),
        "glowplug_model_checkpoint.sharded_saver": ("ShardedSaver",),
        "glowplug_model_checkpoint.timing": ("Every",),
    },
)
