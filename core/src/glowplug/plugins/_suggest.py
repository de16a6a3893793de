"""Error messages for names and addresses that no plugin provides."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from glowplug.exceptions import PluginNotFoundError
from glowplug.plugins._catalogue import FIRST_PARTY
from glowplug.plugins._replacements import REPLACEMENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from glowplug.plugins._discovery import InstalledPlugin
    from glowplug.plugins._loading import PluginFailure

__all__ = ["explain_missing", "explain_unknown_scheme"]

_MODULES = {"handler": "glowplug.handlers", "metric": "glowplug.metrics"}


def explain_missing(
    kind: str,
    name: str,
    offered: Mapping[str, Collection[str]],
    blocked: Sequence[InstalledPlugin],
    failures: Sequence[PluginFailure],
) -> ImportError:
    """Return the error for a name that no loaded plugin offers.

    Args:
        kind: Kind of the requested offer, such as ``"handler"``.
        name: The requested name.
        offered: Maps ``"handler"``, ``"metric"`` and ``"event"`` to the names that the loaded plugins offer.
        blocked: The plugins that a setting blocks.
        failures: The faulty plugins.

    Returns:
        A ``PluginLoadError`` if the name belongs to a faulty plugin, otherwise a ``PluginNotFoundError``.

    Example:
        >>> print(explain_missing("handler", "EarlyStoping", {"handler": ["EarlyStopping"]}, [], []))
        no plugin offers the handler 'EarlyStoping'. Did you mean EarlyStopping?
    """
    distribution = FIRST_PARTY.get(name)
    for failure in failures:
        if failure.distribution == distribution:
            broken = failure.error(f"the {kind} {name!r} is in a faulty plugin: {failure}")
            broken.__cause__ = failure.exception
            return broken
    sentences = [f"no plugin offers the {kind} {name!r}"]
    for other, module in _MODULES.items():
        if other != kind and name in offered.get(other, ()):
            sentences.append(f"It is a {other}: from {module} import {name}")
    if name in REPLACEMENTS:
        sentences += [*_unavailable(blocked, failures), REPLACEMENTS[name]]
    elif distribution is None:
        matches = get_close_matches(name, {*offered.get(kind, ()), *FIRST_PARTY}, n=1)
        sentences += [f"Did you mean {match}?" for match in matches]
        sentences += _unavailable(blocked, failures)
    elif len(sentences) == 1:
        settings = [plugin.blocked_by for plugin in blocked if plugin.distribution == distribution]
        remedy = (
            f", which is blocked by {settings[0]}; change this setting"
            if settings
            else f": pip install {distribution}"
        )
        sentences.append(f"It is in {distribution}{remedy}")
    return PluginNotFoundError(_join(sentences))


def explain_unknown_scheme(
    uri: str, blocked: Sequence[InstalledPlugin], failures: Sequence[PluginFailure]
) -> PluginNotFoundError:
    """Return the error for an address that no loaded plugin handles.

    Args:
        uri: The address.
        blocked: The plugins that a setting blocks.
        failures: The faulty plugins.

    Example:
        >>> print(explain_unknown_scheme("s3://bucket/run", [], []))
        no plugin handles s3:// addresses: got 's3://bucket/run'. Install a plugin that implements glowplug_save_handler(uri) for this scheme, or pass a folder or a function (checkpoint, filename, metadata)
    """
    scheme = uri.partition("://")[0]
    # Credentials and the query, which may contain a token, are not shown.
    shown = re.sub(r"(?<=://)[^/\s]*@", "***@", uri.partition("?")[0])
    sentences = [
        f"no plugin handles {scheme}:// addresses: got {shown!r}",
        (
            "Install a plugin that implements glowplug_save_handler(uri) for this scheme, or pass a folder or a function"
            " (checkpoint, filename, metadata)"
        ),
        *_unavailable(blocked, failures),
    ]
    return PluginNotFoundError(_join(sentences))


def _unavailable(blocked: Sequence[InstalledPlugin], failures: Sequence[PluginFailure]) -> Iterator[str]:
    """List the blocked and faulty plugins, one of which may provide the missing name or address."""
    if blocked:
        listed = ", ".join(f"{plugin.distribution} ({plugin.blocked_by})" for plugin in blocked)
        yield f"Blocked plugins: {listed}"
    if failures:
        listed = "; ".join(f"{failure.distribution} ({failure.cause})" for failure in failures)
        yield f"Faulty plugins: {listed}"


def _join(sentences: Sequence[str]) -> str:
    return ". ".join(sentences).replace("?. ", "? ")
