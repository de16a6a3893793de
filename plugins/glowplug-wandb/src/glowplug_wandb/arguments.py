"""Arguments of ``wandb.init``: which run they select, which server they name, and what a replay needs of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from wandb import Run

OFFLINE = ("offline", "dryrun", "disabled")
"""Modes in which W&B uploads nothing."""

SELECT_A_RUN = ("resume", "resume_from", "fork_from")
"""Arguments that say how the new run is related to an existing run."""

DESCRIBE_A_RUN = ("name", "notes", "tags", "group", "job_type", "config")


def setting(init: Mapping[str, Any], name: str) -> str | None:
    """Return a setting from the arguments of ``wandb.init``; ``None`` if no argument contains the setting.

    Args:
        init: The arguments.
        name: Name of the setting.

    Example:
        >>> setting({"settings": {"base_url": "https://wandb.example.com"}}, "base_url")
        'https://wandb.example.com'
    """
    settings = init.get("settings") or {}
    if not isinstance(settings, Mapping):
        settings = {field: getattr(settings, field) for field in settings.model_fields_set}
    value = init.get(name) or settings.get(name)
    return None if value is None else str(value)


def without_password(url: str) -> str:
    """Return a URL without its user name and password.

    Args:
        url: The URL.

    Example:
        >>> without_password("https://user:secret@wandb.example.com:8080/api")
        'https://wandb.example.com:8080/api'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def without_api_key(init: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``wandb.init`` without the API key that the settings may contain."""
    settings = init.get("settings")
    if isinstance(settings, Mapping):
        settings = {name: value for name, value in settings.items() if name != "api_key"}
    elif settings is not None and "api_key" in settings.model_fields_set:
        fields = settings.model_fields_set - {"api_key"}
        settings = type(settings)(**{field: getattr(settings, field) for field in fields})
    return {**init, "settings": settings} if "settings" in init else dict(init)


def check_mode(init: Mapping[str, Any], run: Run | None) -> None:
    """Raise ``ValueError`` if W&B would not confirm what it has received.

    Args:
        init: The arguments of ``wandb.init``.
        run: The user's run, or ``None``.
    """
    mode = (setting(init, "mode") or os.environ.get("WANDB_MODE")) if run is None else run.settings.mode
    if mode == "shared":
        raise ValueError(
            'WandbLogger does not support mode="shared", in which W&B does not confirm what it has received; start one run for '
            "each process instead, with the same group="
        )


def replay_options(
    init: Mapping[str, Any], project: str | None, run: Run | None, *, has_begun: bool
) -> dict[str, Any]:
    """Return the arguments with which another process creates the run, or continues it.

    Args:
        init: The arguments of ``wandb.init``.
        project: Project of the run.
        run: The run, if it is open.
        has_begun: Whether W&B has the run. If so, the arguments that describe a new run are left out, because the user may have
            changed the description.
    """
    names = ["entity", "dir"] + ([] if has_begun else [*DESCRIBE_A_RUN, *SELECT_A_RUN])
    options = {name: init[name] for name in names if init.get(name)}
    if "tags" in options and not isinstance(options["tags"], str):
        options["tags"] = list(options["tags"])
    in_environment = os.environ.get("WANDB_MODE")
    mode = setting(init, "mode") or (in_environment if in_environment in OFFLINE else None)
    server = setting(init, "base_url") or os.environ.get("WANDB_BASE_URL")
    if server:
        options["settings"] = {"base_url": without_password(server)}
    project = project or os.environ.get("WANDB_PROJECT")
    if run is not None:
        # The files of the run are in this folder.
        options["dir"] = str(run.settings.root_dir)
        project = run.project
        if run.entity:
            options["entity"] = run.entity
    return options | {name: value for name, value in (("mode", mode), ("project", project)) if value}
