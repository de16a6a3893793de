"""Check for an API key before W&B asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowplug_wandb.arguments import OFFLINE, without_password

if TYPE_CHECKING:
    from wandb import Settings


def require_api_key(chosen: Settings, mode: str | None) -> None:
    """Check that W&B finds an API key or that no key is needed.

    Without a key, ``wandb.init`` would ask for one at the terminal. It would read input that is meant for the training script,
    and the worker thread would wait for the answer.

    Args:
        chosen: The settings that the user chose.
        mode: The mode that the user chose, if any.

    Raises:
        ConnectionError: If there is no API key.
    """
    import wandb
    from wandb.sdk.lib.wbauth import authenticate_session

    settings = wandb.setup().settings.model_copy()
    settings.update_from_settings(chosen)
    if (mode or settings.mode) in OFFLINE or chosen.api_key:
        return
    if authenticate_session(host=settings.base_url, source="WandbLogger", prompt=False, update_session=False):
        return
    raise ConnectionError(
        f"no API key for {without_password(settings.base_url)} is configured; run `wandb login`, or set WANDB_API_KEY or "
        "WANDB_MODE=offline"
    )
