"""Offers of this distribution; imports nothing but the hooks."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Offer the names of this distribution."""
    return [
        Offer(
            "JsonLinesLogger",
            "acme_glowplug_jsonl.logger:JsonLinesLogger",
            kind="logger",
            summary="Writes scalars and hyper-parameters as lines of JSON.",
        ),
    ]
