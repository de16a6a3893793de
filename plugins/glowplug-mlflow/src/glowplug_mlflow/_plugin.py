"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import Check, HandlerSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_handlers() -> list[HandlerSpec]:
    """Offer the handlers of this distribution."""
    return [
        HandlerSpec(
            name="MLflowLogger",
            target="glowplug_mlflow.logger:MLflowLogger",
            kind="logger",
            summary="Logs metrics, parameters and artifacts to an MLflow server or folder.",
        ),
    ]


@hookimpl
def glowplug_doctor() -> list[Check]:
    """Look whether the tracking server answers."""
    from glowplug_mlflow.doctor import check_tracking_server

    return [check_tracking_server()]
