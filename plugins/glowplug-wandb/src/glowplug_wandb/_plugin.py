"""Plugin hooks of this distribution; this module imports only the hook specifications."""

from glowplug.hookspecs import Finding, Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "WandbLogger",
            "glowplug_wandb.logger:WandbLogger",
            kind="logger",
            summary="Logs scalars, hyperparameters, media and artifacts to Weights & Biases.",
        ),
    ]


@hookimpl
def glowplug_doctor() -> list[Finding]:
    """Check that a W&B API key is configured, unless W&B is offline."""
    from glowplug_wandb.doctor import check_api_key

    return [check_api_key()]
