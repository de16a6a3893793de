"""Attachments of a metric to engines."""

from __future__ import annotations

import warnings
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING

from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug.handles import RemovableEventHandle
from glowplug.metrics._state import RankState, has_state
from glowplug.metrics._usage import MetricUsage
from glowplug.stash import StashKey
from glowplug.typing import EngineProtocol

if TYPE_CHECKING:
    from glowplug.metrics._metric import Metric

NAMES = StashKey[set[str]]()
"""The names under which an engine's metrics publish their values."""


class Attachments:
    """Attachments, feeds and published names of one metric.

    Engines are referenced weakly, so a metric does not keep an engine alive.
    """

    def __init__(self) -> None:
        self._attachments: list[_Attachment] = []
        self._feeds: list[_Feed] = []
        self._published: dict[str, tuple[str, ...]] = {}
        self._warned: set[str] = set()
        self._begun_at: weakref.ref[EngineProtocol] | None = None

    def attach(
        self, metric: Metric, engine: EngineProtocol, name: str, usage: MetricUsage
    ) -> RemovableEventHandle:
        """Feed the metric and publish its value; see :meth:`Metric.attach`."""
        names = engine.stash.setdefault(NAMES, set())
        if name in names:
            raise ValueError(
                f"{type(metric).__name__}: the engine already has a metric named {name!r}; choose another name or detach "
                "that metric"
            )
        with ExitStack() as added:
            added.enter_context(metric.feed(engine, usage))
            added.enter_context(engine.add_event_handler(usage.COMPLETED, metric.completed, name))
            if has_state(metric):
                added.enter_context(engine.register_state(f"metric {name}", RankState(metric, engine.state)))
            names.add(name)
            added.callback(names.discard, name)
            attachment = _Attachment(engine, usage, RemovableEventHandle(added.pop_all().close))
        self._attachments = [*filter(_is_active, self._attachments), attachment]
        return RemovableEventHandle(attachment.remove)

    def feed(self, metric: Metric, engine: EngineProtocol, usage: MetricUsage) -> RemovableEventHandle:
        """Register the resets and updates, once per engine; see :meth:`Metric.feed`."""
        self._feeds = [*filter(_is_active, self._feeds)]
        for feed in self._feeds:
            if feed.usage != usage:
                raise ValueError(
                    f"{type(metric).__name__} is already in use as {feed.usage!r} and cannot be used as {usage!r}; attach "
                    "copy.deepcopy(metric), or detach this one first"
                )
        feed_here = next((feed for feed in self._feeds if feed.engine() is engine), None)
        if feed_here is None:
            started = engine.add_event_handler(usage.STARTED, metric.started)
            updated = metric.add_updates(engine, usage)
            feed_here = _Feed(engine, usage, RemovableEventHandle.join(started, updated))
            self._feeds.append(feed_here)
        feed_here.users += 1
        return RemovableEventHandle(feed_here.leave)

    def detach(self, engine: EngineProtocol, usage: MetricUsage) -> None:
        """Undo all calls of attach with this engine and usage."""
        for attachment in self._attachments:
            if attachment.is_at(engine, usage):
                attachment.remove()

    def has(self, engine: EngineProtocol, usage: MetricUsage) -> bool:
        """Return whether the metric is attached to this engine with this usage."""
        return any(attachment.is_at(engine, usage) for attachment in self._attachments)

    def begin(self, engine: EngineProtocol) -> bool:
        """Record the engine whose outputs follow, and return whether the previous outputs came from it as well."""
        previous = self._begun_at and self._begun_at()
        self._begun_at = weakref.ref(engine)
        return previous is engine

    def engines(self) -> list[EngineProtocol]:
        """Return the engines that the metric is attached to, each once."""
        engines = (attachment.engine() for attachment in self._attachments if attachment.is_active)
        return list({id(engine): engine for engine in engines if engine is not None}.values())

    def replace_published(self, name: str, keys: tuple[str, ...]) -> tuple[str, ...]:
        """Record the keys published under a name, and return the previous ones."""
        previous = self._published.get(name, (name,))
        self._published[name] = keys
        return previous

    def warn_once(self, metric: Metric, name: str, reason: NotComputableError) -> None:
        """Warn once per name that a metric has no value."""
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"metric {name!r} ({type(metric).__name__}) has no value and is missing from state.metrics: {reason}",
                GlowplugWarning,
                stacklevel=3,
            )


class _Feed:
    """The reset and update handlers of a metric at one engine, shared by all users."""

    def __init__(self, engine: EngineProtocol, usage: MetricUsage, handle: RemovableEventHandle) -> None:
        self.engine = weakref.ref(engine)
        self.usage = usage
        self.users = 0
        self._handle = handle

    @property
    def is_active(self) -> bool:
        return self.users > 0 and self.engine() is not None

    def leave(self) -> None:
        self.users -= 1
        if not self.users:
            self._handle.remove()


class _Attachment:
    """The registrations that one call of ``attach`` added."""

    def __init__(self, engine: EngineProtocol, usage: MetricUsage, handle: RemovableEventHandle) -> None:
        self.engine = weakref.ref(engine)
        self._usage = usage
        self._is_removed = False
        self._handle = handle

    @property
    def is_active(self) -> bool:
        return not self._is_removed and self.engine() is not None

    def is_at(self, engine: EngineProtocol, usage: MetricUsage) -> bool:
        return self.is_active and self.engine() is engine and self._usage == usage

    def remove(self) -> None:
        self._is_removed = True
        self._handle.remove()


def _is_active(record: _Feed | _Attachment) -> bool:
    return record.is_active
