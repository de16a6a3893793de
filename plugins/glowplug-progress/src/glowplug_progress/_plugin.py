"""What this distribution offers to glowplug; imports nothing but the hooks."""

from glowplug.hookspecs import HandlerSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_handlers() -> list[HandlerSpec]:
    """Offer the handlers of this distribution."""
    return [
        HandlerSpec(
            name="ProgressBar",
            target="glowplug_progress.progress_bar:ProgressBar",
            kind="handler",
            summary="Shows a tqdm progress bar of epochs or iterations.",
        ),
    ]
