"""Offers of this distribution; imports nothing but the hooks."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Offer the names of this distribution."""
    return [
        Offer(
            "Checkpoint",
            "glowplug_model_checkpoint.checkpoint:Checkpoint",
            kind="handler",
            summary="Saves whatever has a state_dict, and keeps the best or the latest.",
        ),
        Offer(
            "ModelCheckpoint",
            "glowplug_model_checkpoint.model_checkpoint:ModelCheckpoint",
            kind="handler",
            summary="Checkpoint that writes into a folder: the usual choice.",
        ),
        Offer(
            "DiskSaver",
            "glowplug_model_checkpoint.disk_saver:DiskSaver",
            kind="save_handler",
            summary="Publishes each checkpoint on disk atomically.",
        ),
        Offer(
            "CheckpointEvents",
            "glowplug_model_checkpoint.checkpoint:CheckpointEvents",
            kind="event",
            summary="SAVED_CHECKPOINT: fired after each save.",
        ),
    ]
