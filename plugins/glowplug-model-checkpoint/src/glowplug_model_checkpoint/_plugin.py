"""Plugin hooks of this distribution; this module imports only the hook specifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug.hookspecs import Offer, hookimpl

if TYPE_CHECKING:
    from glowplug.typing import SaveHandler

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
            "FsspecSaver",
            "glowplug_model_checkpoint.fsspec_saver:FsspecSaver",
            kind="save_handler",
            summary="Writes checkpoints to an address such as s3://bucket/run.",
        ),
        Offer(
            "SafetensorsSaver",
            "glowplug_model_checkpoint.safetensors_saver:SafetensorsSaver",
            kind="save_handler",
            summary="Writes the weights of models as safetensors files.",
        ),
        Offer(
            "ShardedSaver",
            "glowplug_model_checkpoint.sharded_saver:ShardedSaver",
            kind="save_handler",
            summary="Writes checkpoints of sharded models, each rank its part.",
        ),
        Offer(
            "KeepBest",
            "glowplug_model_checkpoint.policies:KeepBest",
            kind="policy",
            summary="Keeps the checkpoints with the best scores.",
        ),
        Offer(
            "KeepEvery",
            "glowplug_model_checkpoint.policies:KeepEvery",
            kind="policy",
            summary="Keeps one checkpoint of each interval.",
        ),
        Offer(
            "KeepLast",
            "glowplug_model_checkpoint.policies:KeepLast",
            kind="policy",
            summary="Keeps the latest checkpoints.",
        ),
        Offer(
            "Every",
            "glowplug_model_checkpoint.timing:Every",
            kind="filter",
            summary="Lets an event through once in each interval of time.",
        ),
        Offer(
            "CheckpointEvents",
            "glowplug_model_checkpoint.checkpoint:CheckpointEvents",
            kind="event",
            summary="Defines SAVED_CHECKPOINT, which fires after each save.",
        ),
    ]


@hookimpl(trylast=True)
def glowplug_save_handler(uri: str) -> SaveHandler | None:
    """Return a save handler for an address that fsspec knows, unless another plugin has one."""
    from glowplug_model_checkpoint.remote_storage import is_known_scheme

    if not is_known_scheme(uri):
        return None
    from glowplug_model_checkpoint.fsspec_saver import FsspecSaver

    return FsspecSaver(uri)
