"""Offers of this distribution; imports nothing but the hooks."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Offer the names of this distribution."""
    return [
        Offer(
            "WandbLogger",
            "acme_glowplug_wandb.logger:WandbLogger",
            kind="logger",
            summary="Logs to Weights & Biases.",
        ),
    ]
