"""Catalogue of published plugins, installed or not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CATALOGUE", "FIRST_PARTY", "PublishedPlugin"]


@dataclass(frozen=True)
class PublishedPlugin:
    """A distribution with a plugin, as catalogue.json describes it.

    Args:
        distribution: What pip installs.
        summary: What the plugin does, in one sentence.
        url: Page of the plugin.
        offers: Names that the plugin offers.

    Example:
        >>> CATALOGUE[0].distribution
        'glowplug-early-stopping'
    """

    distribution: str
    summary: str
    url: str
    offers: tuple[str, ...]


def _read(path: Path) -> tuple[PublishedPlugin, ...]:
    entries = json.loads(path.read_text(encoding="utf-8"))
    return tuple(PublishedPlugin(**{**entry, "offers": tuple(entry["offers"])}) for entry in entries)


CATALOGUE = _read(Path(__file__).with_name("catalogue.json"))
"""The plugins, sorted by distribution; first those of this project."""

FIRST_PARTY = {
    name: plugin.distribution
    for plugin in CATALOGUE
    if plugin.distribution.startswith("glowplug-")
    for name in plugin.offers
}
"""Maps each name that this project's distributions offer to its distribution, for messages that say what to install."""
