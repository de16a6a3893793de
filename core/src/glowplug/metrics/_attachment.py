"""Attachments of a metric to engines."""

from __future__ import annotations

import warnings
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

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
        self.published: dict[str, tuple[str, ...]] = {}
        """For each name, the keys under which its value was last published."""
        # Two attachments to one engine cannot have the same name, so the name is a key.
        self._attached: WeakKeyDictionary[EngineProtocol, dict[str, _Attachment]] = WeakKeyDictionary()
        self._feeds: WeakKeyDictionary[EngineProtocol, _Feed] = WeakKeyDictionary()
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
        attached = self._attached.setdefault(engine, {})
        with ExitStack() as added:
            added.enter_context(metric.feed(engine, usage))
            added.enter_context(engine.add_event_handler(usage.COMPLETED, metric.completed, name))
            if has_state(metric):
                added.enter_context(engine.register_state(f"metric {name}", RankState(metric, engine.state)))
            names.add(name)
            added.callback(names.discard, name)
            added.callback(attached.pop, name, None)
            attached[name] = _Attachment(usage, RemovableEventHandle(added.pop_all().close))
        return attached[name].handle

    def feed(self, metric: Metric, engine: EngineProtocol, usage: MetricUsage) -> RemovableEventHandle:
        """Register the resets and updates, once per engine; see :meth:`Metric.feed`."""
        for other in self._feeds.values():
            if other.users and other.usage != usage:
                raise ValueError(
                    f"{type(metric).__name__} is already in use as {other.usage!r} and cannot be used as {usage!r}; attach "
                    "a copy, created with copy.deepcopy(metric), or detach the metric first"
                )
        feed = self._feeds.get(engine)
        if feed is None or not feed.users:
            started = engine.add_event_handler(usage.STARTED, metric.started)
            updated = metric.add_updates(engine, usage)
            feed = self._feeds[engine] = _Feed(usage, RemovableEventHandle.join(started, updated))
        feed.users += 1
        return RemovableEventHandle(feed.leave)

    def handles(self, engine: EngineProtocol, usage: MetricUsage) -> list[RemovableEventHandle]:
        """Return the handles that ``attach`` returned for this engine and usage."""
        attached = self._attached.get(engine, {})
        return [attachment.handle for attachment in attached.values() if attachment.usage == usage]

    def begin(self, engine: EngineProtocol) -> bool:
        """Record the engine that starts, and return whether the same engine started last time."""
        previous = self._begun_at and self._begun_at()
        self._begun_at = weakref.ref(engine)
        return previous is engine

    def engines(self) -> list[EngineProtocol]:
        """Return the engines that the metric is attached to."""
        return [engine for engine, attached in self._attached.items() if attached]

    def warn_once(self, metric: Metric, name: str, reason: NotComputableError) -> None:
        """Warn once per name that a metric has no value."""
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"metric {name!r} ({type(metric).__name__}) has no value and is missing from state.metrics: {reason}",
                GlowplugWarning,
                stacklevel=3,
            )


class _Attachment(NamedTuple):
    """The registrations that one call of ``attach`` added."""

    usage: MetricUsage
    handle: RemovableEventHandle


class _Feed:
    """The reset and update handlers of a metric at one engine, shared by all users."""

    def __init__(self, usage: MetricUsage, handle: RemovableEventHandle) -> None:
        self.usage = usage
        self.users = 0
        self._handle = handle

    def leave(self) -> None:
        self.users -= 1
        if not self.users:
            self._handle.remove()
