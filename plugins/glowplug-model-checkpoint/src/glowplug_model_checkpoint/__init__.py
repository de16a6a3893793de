"""Checkpoints for glowplug: models, optimizers and engines, published atomically."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowplug_model_checkpoint.checkpoint import Checkpoint, CheckpointEvents
    from glowplug_model_checkpoint.disk_saver import DiskSaver
    from glowplug_model_checkpoint.model_checkpoint import ModelCheckpoint
    from glowplug_model_checkpoint.save_handler import BaseSaveHandler

__all__ = ["BaseSaveHandler", "Checkpoint", "CheckpointEvents", "DiskSaver", "ModelCheckpoint"]

# Discovery imports this package on the way to its _plugin module: a name's own module waits until the name is used.
_HOMES = {
    "BaseSaveHandler": "save_handler",
    "Checkpoint": "checkpoint",
    "CheckpointEvents": "checkpoint",
    "DiskSaver": "disk_saver",
    "ModelCheckpoint": "model_checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
