"""Plugin hooks of this distribution; imports only the hook specifications."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "JsonLinesLogger",
            "acme_glowplug_jsonl.logger:JsonLinesLogger",
            kind="logger",
            summary="Writes scalars and hyperparameters to a JSON Lines file.",
        ),
    ]
