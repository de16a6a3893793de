"""Offers of this distribution; imports nothing but the hooks."""

from glowplug.hookspecs import Finding, Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Offer the names of this distribution."""
    return [
        Offer(
            "MLflowLogger",
            "glowplug_mlflow.logger:MLflowLogger",
            kind="logger",
            summary="Logs metrics, parameters and artifacts to an MLflow server or folder.",
        ),
    ]


@hookimpl
def glowplug_doctor() -> list[Finding]:
    """Look whether the tracking server answers."""
    from glowplug_mlflow.doctor import check_tracking_server

    return [check_tracking_server()]
