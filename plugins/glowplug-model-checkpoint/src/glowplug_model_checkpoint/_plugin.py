"""Plugin hooks of this distribution; this module imports only the hook specifications."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "Checkpoint",
            "glowplug_model_checkpoint.checkpoint:Checkpoint",
            kind="handler",
            summary="Saves objects that have a state_dict() and keeps the best or latest checkpoints.",
        ),
        Offer(
            "ModelCheckpoint",
            "glowplug_model_checkpoint.model_checkpoint:ModelCheckpoint",
            kind="handler",
            summary="Saves checkpoints to a folder.",
        ),
        Offer(
            "DiskSaver",
            "glowplug_model_checkpoint.disk_saver:DiskSaver",
            kind="save_handler",
            summary="Writes checkpoints to disk atomically.",
        ),
        Offer(
            "CheckpointEvents",
            "glowplug_model_checkpoint.checkpoint:CheckpointEvents",
            kind="event",
            summary="Defines SAVED_CHECKPOINT, which fires after each save.",
        ),
    ]
