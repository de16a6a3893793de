"""Attachments of a metric to engines."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from glowplug.distributed import rank
from glowplug.events import Events
from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug.handles import RemovableEventHandle
from glowplug.metrics._padding import PADDING_IS_SETTLED, padded_share
from glowplug.metrics._usage import MetricUsage
from glowplug.stash import StashKey
from glowplug.typing import EngineProtocol

NAMES = StashKey[dict[str, MetricUsage]]()
"""The names under which an engine's metrics publish their values, with the usage of each metric."""


class Attachments:
    """The engines that one metric is attached to, and the names of its published values.

    A feed consists of the handlers that reset and update the metric at one engine. Engines are referenced weakly, so a metric
    does not keep an engine alive.

    Args:
        metric: The class name of the metric, shown in messages.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self.published: dict[str, tuple[str, ...]] = {}
        """For each name, the keys under which its value was last published."""
        # Two attachments to one engine cannot have the same name, so the name is a key.
        self._attached: WeakKeyDictionary[EngineProtocol, dict[str, _Attachment]] = WeakKeyDictionary()
        self._feeds: WeakKeyDictionary[EngineProtocol, _Feed] = WeakKeyDictionary()
        self._warned: set[str] = set()
        self._begun_at: weakref.ref[EngineProtocol] | None = None

    def claim(self, engine: EngineProtocol, name: str, usage: MetricUsage) -> RemovableEventHandle:
        """Reserve a name on an engine, and return a handle that releases the name."""
        names = engine.stash.setdefault(NAMES, {})
        if name in names:
            raise ValueError(
                f"{self._metric}: the engine already has a metric named {name!r}; choose another name or detach that metric"
            )
        names[name] = usage
        attached = self._attached.setdefault(engine, {})

        def release() -> None:
            names.pop(name, None)
            attached.pop(name, None)

        return RemovableEventHandle(release)

    def add(
        self, engine: EngineProtocol, name: str, usage: MetricUsage, handle: RemovableEventHandle
    ) -> None:
        """Record an attachment under the name that :meth:`claim` reserved."""
        self._attached[engine][name] = _Attachment(usage, handle)

    def feed(
        self,
        engine: EngineProtocol,
        usage: MetricUsage,
        add: Callable[[EngineProtocol, MetricUsage], RemovableEventHandle],
    ) -> RemovableEventHandle:
        """Add the reset and update handlers unless the engine already has them; see :meth:`Metric.feed`."""
        for other in self._feeds.values():
            if other.users and other.usage != usage:
                raise ValueError(
                    f"{self._metric} is already in use as {other.usage!r} and cannot also be used as {usage!r}; "
                    "attach a copy made with copy.deepcopy(metric), or detach this metric first"
                )
        feed = self._feeds.get(engine)
        if feed is None or not feed.users:
            feed = self._feeds[engine] = _Feed(usage, add(engine, usage))
        feed.users += 1
        return RemovableEventHandle(feed.leave)

    def handles(self, engine: EngineProtocol, usage: MetricUsage) -> list[RemovableEventHandle]:
        """Return the handles that ``attach`` returned for this engine and usage."""
        attached = self._attached.get(engine, {})
        return [attachment.handle for attachment in attached.values() if attachment.usage == usage]

    def begin(self, engine: EngineProtocol) -> bool:
        """Record the engine that now uses the metric, and return whether it is the same engine as before."""
        previous = self._begun_at and self._begun_at()
        self._begun_at = weakref.ref(engine)
        return previous is engine

    def engines(self) -> list[EngineProtocol]:
        """Return the engines that the metric is attached to."""
        return [engine for engine, attached in self._attached.items() if attached]

    def warn_once(self, name: str, reason: NotComputableError) -> None:
        """Warn that the metric has no value; warn only once for each name."""
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"metric {name!r} ({self._metric}) has no value and is missing from state.metrics: {reason}",
                GlowplugWarning,
                stacklevel=3,
            )

    def warn_about_padding(self, engine: EngineProtocol) -> None:
        """Warn on rank 0, once for each engine, if metrics count samples that a sampler repeats; call this after an epoch."""
        share = padded_share(engine.state.dataloader)
        if share is None or engine.stash.get(PADDING_IS_SETTLED) or rank() != 0:
            return
        # Metrics that are updated at some iterations only may miss the repeated samples.
        names = ", ".join(
            repr(name)
            for name, usage in engine.stash.get(NAMES, {}).items()
            if engine.current_event == usage.COMPLETED
            and usage.ITERATION_COMPLETED is Events.ITERATION_COMPLETED
        )
        repeated = share.repeated(engine.state.epoch_length or 0)
        if not (names and repeated):
            return
        engine.stash[PADDING_IS_SETTLED] = True
        warnings.warn(
            f"metrics ({names}) count some samples more than once: the {share.sampler} pads the {share.samples} samples of the data so "
            f"that each of the {share.ranks} ranks has {share.length} ({repeated} repeated). To count each sample once, use "
            "create_supervised_evaluator(..., drop_padding=True), or wrap your step: Engine(without_padding(step)), with "
            "without_padding from glowplug.metrics",
            GlowplugWarning,
            stacklevel=3,
        )


class _Attachment(NamedTuple):
    """The usage and the handle of one call of ``attach``."""

    usage: MetricUsage
    handle: RemovableEventHandle


class _Feed:
    """The reset and update handlers of a metric at one engine, added once and shared by all attachments."""

    def __init__(self, usage: MetricUsage, handle: RemovableEventHandle) -> None:
        self.usage = usage
        self.users = 0
        self._handle = handle

    def leave(self) -> None:
        self.users -= 1
        if not self.users:
            self._handle.remove()
