"""What a plugin may implement.

A plugin is a distribution with an entry point in the group ``glowplug``:

.. code-block:: toml

    [project.entry-points.glowplug]
    shout = "acme_shout._plugin"

The module that it names declares ``GLOWPLUG_API = 1``, imports nothing heavy, and holds any of the functions below::

    from glowplug.hookspecs import HandlerSpec, hookimpl

    GLOWPLUG_API = 1


    @hookimpl
    def glowplug_handlers():
        return [HandlerSpec(name="Shout", target="acme_shout.handler:Shout", summary="Prints the epoch.")]

Installing a plugin offers its names; it never changes a run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "API_VERSION",
    "HANDLER_KINDS",
    "PROJECT",
    "Check",
    "EventSpec",
    "HandlerSpec",
    "MetricSpec",
    "glowplug_doctor",
    "glowplug_events",
    "glowplug_handlers",
    "glowplug_metrics",
    "glowplug_save_handler",
    "glowplug_to_scalar",
    "hookimpl",
    "hookspec",
]

PROJECT = "glowplug"
"""Name of the pluggy project, of the entry-point group, and prefix of every hook."""

API_VERSION = 1
"""What a plugin module states as its ``GLOWPLUG_API``; it grows when the hooks change incompatibly."""

HANDLER_KINDS = ("handler", "logger", "log_handler", "save_handler")
"""What a `HandlerSpec` may be: the first two are attached to an engine, the last two are given to a handler."""

_CHECK_STATUSES = ("ok", "warning", "error")

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a specification in this file."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a module-level function of a plugin module as the implementation of the hook that has its name; it takes that
hook's arguments, or fewer of them. ``@hookimpl(tryfirst=True)`` and ``trylast`` order the plugins that answer the same
question. An undecorated function named ``glowplug_…`` counts as well."""


def _require_identifier(kind: str, name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise ValueError(
            f"{kind} name must be a public Python name, as in {kind}(name='EarlyStopping', …); got {name!r}"
        )


def _require_target(kind: str, name: str, target: object) -> None:
    identifier = r"[^\W\d]\w*"
    pattern = rf"{identifier}(\.{identifier})*:{identifier}(\.{identifier})*"
    if not isinstance(target, str) or not re.fullmatch(pattern, target):
        raise ValueError(
            f"{kind} {name!r}: target must be the text 'module:attribute', as in"
            f" 'acme_shout.handler:{name}', so that nothing is imported before it is asked for; got {target!r}"
        )


def _require_text(kind: str, name: str, field: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{kind} {name!r}: {field} must be text; got {value!r}")  # noqa: TRY004 one error type for a bad spec


def _require_choice(kind: str, name: str, field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"{kind} {name!r}: {field} must be one of {', '.join(map(repr, choices))}; got {value!r}"
        )


@dataclass(frozen=True)
class HandlerSpec:
    """A handler that a plugin offers under a name.

    Args:
        name: what a user asks for: ``from glowplug.handlers import <name>``.
        target: where it is, as ``"module:attribute"``; imported when the name is asked for.
        kind: ``"handler"`` and ``"logger"`` have ``attach(engine, …)``; a ``"log_handler"`` is given to a logger's
            ``attach``; a ``"save_handler"`` is given to a checkpoint. Default ``"handler"``.
        summary: one line for ``glowplug plugins show``.

    Raises:
        ValueError: a field that nothing could be done with; the text says what to write.

    Example:
        >>> spec = HandlerSpec(
        ...     name="MLflowLogger", target="glowplug_mlflow.logger:MLflowLogger", kind="logger"
        ... )
        >>> spec.name
        'MLflowLogger'
    """

    name: str
    target: str
    kind: str = "handler"
    summary: str = ""

    def __post_init__(self) -> None:
        _require_identifier("HandlerSpec", self.name)
        _require_target("HandlerSpec", self.name, self.target)
        _require_choice("HandlerSpec", self.name, "kind", self.kind, HANDLER_KINDS)
        _require_text("HandlerSpec", self.name, "summary", self.summary)


@dataclass(frozen=True)
class MetricSpec:
    """A metric that a plugin offers under a name.

    Args:
        name: what a user asks for: ``from glowplug.metrics import <name>``.
        target: where it is, as ``"module:attribute"``; imported when the name is asked for.
        summary: one line for ``glowplug plugins show``.

    Raises:
        ValueError: a field that nothing could be done with; the text says what to write.

    Example:
        >>> MetricSpec(name="Accuracy", target="glowplug_metrics.accuracy:Accuracy").target
        'glowplug_metrics.accuracy:Accuracy'
    """

    name: str
    target: str
    summary: str = ""

    def __post_init__(self) -> None:
        _require_identifier("MetricSpec", self.name)
        _require_target("MetricSpec", self.name, self.target)
        _require_text("MetricSpec", self.name, "summary", self.summary)


@dataclass(frozen=True)
class EventSpec:
    """An ``EventEnum`` class that a plugin offers under a name.

    Args:
        name: what a user asks for: ``get_registry().resolve_event(<name>)``.
        target: where the class is, as ``"module:attribute"``; imported when the name is asked for.
        summary: one line for ``glowplug plugins show``.

    Raises:
        ValueError: a field that nothing could be done with; the text says what to write.

    Example:
        >>> EventSpec(name="BackwardEvents", target="acme_backward.events:BackwardEvents").name
        'BackwardEvents'
    """

    name: str
    target: str
    summary: str = ""

    def __post_init__(self) -> None:
        _require_identifier("EventSpec", self.name)
        _require_target("EventSpec", self.name, self.target)
        _require_text("EventSpec", self.name, "summary", self.summary)


@dataclass(frozen=True)
class Check:
    """One finding of a plugin about its own surroundings, for ``glowplug doctor``.

    Args:
        name: what was looked at, in a few words.
        status: ``"ok"``, ``"warning"`` or ``"error"``.
        message: what was found.
        remedy: what to do about it. Default: nothing.

    Raises:
        ValueError: a field that nothing could be done with; the text says what to write.

    Example:
        >>> Check(
        ...     name="tracking server", status="error", message="refused", remedy="start it: mlflow server"
        ... ).status
        'error'
    """

    name: str
    status: str
    message: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        _require_text("Check", str(self.name), "name", self.name)
        _require_choice("Check", self.name, "status", self.status, _CHECK_STATUSES)
        _require_text("Check", self.name, "message", self.message)
        _require_text("Check", self.name, "remedy", self.remedy)


@hookspec
def glowplug_handlers() -> Iterable[HandlerSpec]:  # type: ignore[empty-body] # a specification has no body
    """Offer handlers by name.

    Called once, at discovery. Example of a whole plugin module::

        from glowplug.hookspecs import HandlerSpec, hookimpl

        GLOWPLUG_API = 1


        @hookimpl
        def glowplug_handlers():
            return [
                HandlerSpec(
                    name="AcmeLogger",
                    target="acme_glowplug_logger.logger:AcmeLogger",
                    kind="logger",
                    summary="Logs to an Acme server.",
                )
            ]

    Returns:
        The specifications; their targets are imported only when the name is asked for.
    """


@hookspec
def glowplug_metrics() -> Iterable[MetricSpec]:  # type: ignore[empty-body] # a specification has no body
    """Offer metrics by name.

    Called once, at discovery. Example of a whole plugin module::

        from glowplug.hookspecs import MetricSpec, hookimpl

        GLOWPLUG_API = 1


        @hookimpl
        def glowplug_metrics():
            return [MetricSpec(name="Perplexity", target="acme_metrics.perplexity:Perplexity")]

    Returns:
        The specifications; their targets are imported only when the name is asked for.
    """


@hookspec
def glowplug_events() -> Iterable[EventSpec]:  # type: ignore[empty-body] # a specification has no body
    """Offer event classes by name.

    Called once, at discovery. Example of a whole plugin module::

        from glowplug.hookspecs import EventSpec, hookimpl

        GLOWPLUG_API = 1


        @hookimpl
        def glowplug_events():
            return [EventSpec(name="BackwardEvents", target="acme_backward.events:BackwardEvents")]

    Returns:
        The specifications; their targets are imported only when the name is asked for.
    """


@hookspec(firstresult=True)
def glowplug_to_scalar(value: Any) -> float | None:
    """Teach the loggers a new type of value.

    Called for a value that no logger knows; the first plugin that answers wins. Example of a whole plugin module::

        from fractions import Fraction

        from glowplug.hookspecs import hookimpl

        GLOWPLUG_API = 1


        @hookimpl
        def glowplug_to_scalar(value):
            return float(value) if isinstance(value, Fraction) else None

    Args:
        value: a leaf of an engine's output or metrics.

    Returns:
        The number to log, or None: not a type of this plugin.
    """


@hookspec(firstresult=True)
def glowplug_save_handler(uri: str) -> Callable[..., Any] | None:
    """Say where checkpoints under a new kind of address go.

    Called with the address that a user gives to ``ModelCheckpoint``; the first plugin that answers wins. Example of
    a whole plugin module::

        from glowplug.hookspecs import hookimpl

        GLOWPLUG_API = 1


        @hookimpl
        def glowplug_save_handler(uri):
            if not uri.startswith("s3://"):
                return None
            from acme_s3.saver import S3Saver

            return S3Saver(uri)

    Args:
        uri: an address with a scheme, as in ``"s3://bucket/run"``.

    Returns:
        A save handler, called as ``handler(checkpoint, filename, metadata)``, or None: not a scheme of this plugin. With
        the methods ``remove(filename)``, ``exists(filename) -> bool`` and ``locate(filename) -> str`` it is also asked to
        remove what is no longer kept.
    """


@hookspec
def glowplug_doctor() -> Iterable[Check]:  # type: ignore[empty-body] # a specification has no body
    """Look at the surroundings that the plugin needs.

    Called by ``glowplug doctor`` and by nothing else, so it may take a few seconds. Example of a whole plugin module::

        import os

        from glowplug.hookspecs import Check, hookimpl

        GLOWPLUG_API = 1


        @hookimpl
        def glowplug_doctor():
            known = "ACME_TOKEN" in os.environ
            status = "ok" if known else "error"
            return [Check(name="token", status=status, remedy="" if known else "export ACME_TOKEN=…")]

    Returns:
        The findings, in the order in which they are to be shown.
    """
