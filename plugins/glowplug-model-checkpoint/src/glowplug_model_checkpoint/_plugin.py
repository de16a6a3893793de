"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import EventSpec, HandlerSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_handlers() -> list[HandlerSpec]:
    """Offer the handlers of this distribution."""
    return [
        HandlerSpec(
            name="Checkpoint",
            target="glowplug_model_checkpoint.checkpoint:Checkpoint",
            kind="handler",
            summary="Saves whatever has a state_dict, and keeps the best or the latest.",
        ),
        HandlerSpec(
            name="ModelCheckpoint",
            target="glowplug_model_checkpoint.model_checkpoint:ModelCheckpoint",
            kind="handler",
            summary="Checkpoint that writes into a folder: the usual choice.",
        ),
        HandlerSpec(
            name="DiskSaver",
            target="glowplug_model_checkpoint.disk_saver:DiskSaver",
            kind="save_handler",
            summary="Publishes each checkpoint on disk atomically.",
        ),
    ]


@hookimpl
def glowplug_events() -> list[EventSpec]:
    """Offer what a checkpoint fires."""
    return [
        EventSpec(
            name="CheckpointEvents",
            target="glowplug_model_checkpoint.checkpoint:CheckpointEvents",
            summary="SAVED_CHECKPOINT: fired after each save.",
        )
    ]
