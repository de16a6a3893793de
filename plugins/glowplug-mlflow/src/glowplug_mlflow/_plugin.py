"""Plugin hooks of this distribution; this module imports only the hook specifications."""

from glowplug.hookspecs import Finding, Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "MLflowLogger",
            "glowplug_mlflow.logger:MLflowLogger",
            kind="logger",
            summary="Logs metrics, parameters and artifacts to an MLflow server or database.",
        ),
    ]


@hookimpl
def glowplug_doctor() -> list[Finding]:
    """Check that the tracking server responds."""
    from glowplug_mlflow.doctor import check_tracking_server

    return [check_tracking_server()]
