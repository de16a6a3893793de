"""Check of the W&B configuration for ``glowplug doctor``."""

from __future__ import annotations

import netrc
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from glowplug.hookspecs import Finding
from glowplug_wandb.arguments import OFFLINE, without_password


def check_api_key() -> Finding:
    """Check that a W&B API key is configured.

    The check does not connect to W&B. If ``WANDB_MODE`` turns off uploads, no API key is needed and the check passes.

    Example:
        >>> check_api_key().name
        'W&B'
    """
    mode = os.environ.get("WANDB_MODE", "online")
    if mode in OFFLINE:
        return Finding(name="W&B", status="ok", message=f"runs are not uploaded: WANDB_MODE={mode}")
    server = without_password(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    if os.environ.get("WANDB_API_KEY") or _has_entry(urlsplit(server).hostname or ""):
        return Finding(name="W&B", status="ok", message=f"an API key for {server} is configured")
    return Finding(
        name="W&B",
        status="warning",
        message=f"no API key for {server} is configured, so records wait on disk",
        remedy="wandb login, or set WANDB_API_KEY or WANDB_MODE=offline",
    )


def _has_entry(host: str) -> bool:
    """Return whether the netrc file has an entry for a host; ``wandb login`` stores the API key in this file."""
    default = Path("~/.netrc" if os.name != "nt" else "~/_netrc").expanduser()
    with suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC") or default).authenticators(host) is not None
    return False
