"""What this distribution offers to glowplug."""

from glowplug.hookspecs import HandlerSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_handlers() -> list[HandlerSpec]:
    """Offer the logger."""
    return [
        HandlerSpec(
            name="WandbLogger",
            target="acme_glowplug_wandb.logger:WandbLogger",
            kind="logger",
            summary="Logs to Weights & Biases.",
        ),
    ]
