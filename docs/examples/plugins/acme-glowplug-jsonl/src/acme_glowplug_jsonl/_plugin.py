"""What this distribution offers to glowplug."""

from glowplug.hookspecs import HandlerSpec, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_handlers() -> list[HandlerSpec]:
    """Offer the logger."""
    return [
        HandlerSpec(
            name="JsonLinesLogger",
            target="acme_glowplug_jsonl.logger:JsonLinesLogger",
            kind="logger",
            summary="Writes scalars and hyper-parameters as lines of JSON.",
        ),
    ]
