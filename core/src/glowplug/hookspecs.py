"""Hooks that a plugin may implement.

A plugin is a distribution with an entry point in the group ``glowplug``:

.. code-block:: toml

    [project.entry-points.glowplug]
    shout = "acme_shout._plugin"

The entry point names a module that sets ``GLOWPLUG_API``, imports no heavy library and implements one or more of these hooks::

    from glowplug.hookspecs import Offer, hookimpl

    GLOWPLUG_API = 1


    @hookimpl
    def glowplug_offers():
        return [Offer("Shout", "acme_shout.handler:Shout", kind="handler", summary="Prints the epoch.")]

Installing a plugin makes names available; it never changes a run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import pluggy

from glowplug._finding import Finding, FindingStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from glowplug._save_handler import SaveHandler

__all__ = [
    "API_VERSION",
    "PROJECT",
    "Finding",
    "FindingStatus",
    "Offer",
    "OfferKind",
    "glowplug_doctor",
    "glowplug_offers",
    "glowplug_save_handler",
    "glowplug_to_scalar",
    "hookimpl",
    "hookspec",
]

PROJECT = "glowplug"
"""Name of the pluggy project and of the entry-point group; also the prefix of every hook."""

API_VERSION = 1
"""The required value of ``GLOWPLUG_API`` in plugin modules; incremented when hooks change incompatibly."""

OfferKind = Literal["handler", "logger", "log_handler", "save_handler", "policy", "filter", "metric", "event"]
"""Kind of an offer.

A ``"handler"`` or ``"logger"`` is attached to an engine, and a ``"log_handler"`` to a logger. A ``"save_handler"`` is passed to
``ModelCheckpoint``, and so is a ``"policy"``, which decides which checkpoints are kept. A ``"filter"`` decides at which firings of
an event handlers run. All six are importable from ``glowplug.handlers``; they are separate kinds because ``glowplug plugins check``
verifies a different interface for each. A ``"metric"`` is importable from ``glowplug.metrics``. An ``"event"`` is a subclass of
``EventEnum``.
"""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a hook specification in this module."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin module as the implementation of the hook with the same name.

The function may omit arguments of the hook. ``@hookimpl(tryfirst=True)`` and ``@hookimpl(trylast=True)`` order the
implementations of different plugins. An undecorated function with the name of a hook is an implementation too.
"""

_IDENTIFIER = r"[^\W\d]\w*"
_TARGET = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}(\.{_IDENTIFIER})*")


@dataclass(frozen=True)
class Offer:
    """A name that a plugin provides.

    Args:
        name: The name that users import, as in ``from glowplug.handlers import <name>``.
        target: Location of the object, as ``"module:attribute"``; the module is imported when the name is first used.
        kind: Kind of the object; see :data:`OfferKind`. Defaults to ``"handler"``.
        summary: One-line description that ``glowplug plugins show`` prints.

    Raises:
        ValueError: If a field has an invalid value.

    Example:
        >>> Offer("MLflowLogger", "glowplug_mlflow.logger:MLflowLogger", kind="logger").name
        'MLflowLogger'
    """

    name: str
    target: str
    kind: OfferKind = "handler"
    summary: str = ""

    def __post_init__(self) -> None:
        # Authors who do not run a type checker may pass values of any type.
        name: object = self.name
        target: object = self.target
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise ValueError(f"Offer name must be a public Python name, as in 'EarlyStopping'; got {name!r}")
        if not isinstance(target, str) or not _TARGET.fullmatch(target):
            raise ValueError(
                f"Offer {name!r}: target must have the form 'module:attribute', as in 'acme_shout.handler:{name}';"
                f" got {target!r}"
            )
        if self.kind not in get_args(OfferKind):
            raise ValueError(
                f"Offer {name!r}: kind must be one of {', '.join(map(repr, get_args(OfferKind)))}; got {self.kind!r}"
            )
        if not isinstance(self.summary, str):
            raise ValueError(f"Offer {name!r}: summary must be a string; got {self.summary!r}")  # noqa: TRY004 one error type for a bad offer


@hookspec
def glowplug_offers() -> Iterable[Offer]:  # type: ignore[empty-body] # a specification has no body
    """Offer handlers, loggers, metrics and events by name.

    glowplug calls this hook once, when it discovers the plugins.

    Returns:
        The offers. The target of an offer is imported when the name of the offer is first used.

    Example:
        >>> @hookimpl
        ... def glowplug_offers():
        ...     return [Offer("Shout", "acme_shout.handler:Shout", summary="Prints the epoch.")]
        >>> [(offer.name, offer.kind) for offer in glowplug_offers()]
        [('Shout', 'handler')]
    """


@hookspec(firstresult=True)
def glowplug_to_scalar(value: Any) -> float | None:
    """Convert a value of a custom type to a number for loggers.

    The loggers call this hook for values that they cannot convert. The plugins are called in turn until one returns a number.

    Args:
        value: A single value from an engine's output or metrics, not a list, tuple or mapping.

    Returns:
        The number to log, or ``None`` if the plugin does not know the type.

    Example:
        >>> class Percent(str): ...
        >>> @hookimpl
        ... def glowplug_to_scalar(value):
        ...     return float(value.rstrip("%")) / 100 if isinstance(value, Percent) else None
        >>> glowplug_to_scalar(Percent("25%")), glowplug_to_scalar("25%")
        (0.25, None)
    """


@hookspec(firstresult=True)
def glowplug_save_handler(uri: str) -> SaveHandler | Callable[..., Any] | None:
    """Return the save handler for an address.

    ``ModelCheckpoint`` calls this hook with an address that the user passes instead of a folder. The plugins are called in turn
    until one returns a save handler.

    Args:
        uri: An address with a scheme, as in ``"s3://bucket/run"``.

    Returns:
        A save handler (:class:`glowplug.typing.SaveHandler`), or a function ``(checkpoint, filename, metadata)`` that saves but
        cannot load. ``None`` means that the plugin does not know the scheme.

    Example:
        >>> def upload(checkpoint, filename, metadata): ...
        >>> @hookimpl
        ... def glowplug_save_handler(uri):
        ...     return upload if uri.startswith("acme://") else None
        >>> glowplug_save_handler("acme://run") is upload, glowplug_save_handler("s3://bucket/run")
        (True, None)
    """


@hookspec
def glowplug_doctor() -> Iterable[Finding]:  # type: ignore[empty-body] # a specification has no body
    """Check the resources that the plugin needs, such as a server or a token.

    Only the command ``glowplug doctor`` calls this hook. An implementation may take a few seconds.

    Returns:
        The findings, in display order.

    Example:
        >>> import os
        >>> @hookimpl
        ... def glowplug_doctor():
        ...     if "ACME_TOKEN" in os.environ:
        ...         return [Finding("token", "ok", "ACME_TOKEN is set")]
        ...     return [Finding("token", "error", "ACME_TOKEN is not set", remedy="export ACME_TOKEN=...")]
        >>> [finding.status for finding in glowplug_doctor()]
        ['error']
    """
