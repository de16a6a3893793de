"""Plugin hooks of this distribution; imports only the hook specifications."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "WandbLogger",
            "acme_glowplug_wandb.logger:WandbLogger",
            kind="logger",
            summary="Logs to Weights & Biases.",
        ),
    ]
