"""Lines that stay on the screen, one for each epoch that has ended."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from glowplug import Events, Phase, RemovableEventHandle, RunOutcome, RunStart, StashKey, State
from glowplug.distributed import rank
from glowplug.engine import Delegate
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import EngineProtocol
from glowplug_progress.best import Best
from glowplug_progress.counting import Counter, Unit
from glowplug_progress.postfix import Leaf, Postfix
from glowplug_progress.runs import Runs
from glowplug_progress.style import Span, Style


@dataclass
class Report:
    """What all epoch lines of a progress bar share.

    Args:
        style: Style that prints the lines.
        runs: Running engines of the progress bar.
        best: Best value so far; ``None`` to mark no values.
        word: Word before the number of an epoch; ``None`` for ``Epoch``.
    """

    style: Style
    runs: Runs
    best: Best | None = None
    word: str | None = None
    key: StashKey[EpochLines] = field(default_factory=StashKey)


@dataclass
class Group:
    """Values of one engine in a line."""

    name: str | None
    leaves: list[Leaf]


@dataclass
class Epoch:
    """An epoch that has ended and has no line yet."""

    number: int
    title: str


class EpochLines(Delegate):
    """Lines for the ended epochs of one engine.

    A line is printed when the next epoch starts or the run ends, so that it includes the values of engines that handlers ran at
    the end of the epoch. The line of a run of one epoch is printed when all handlers of the run have ended. If such an
    engine runs a single epoch, as evaluators do, it has no separate line. An epoch that ``max_iters`` ends early has no line.

    Args:
        report: What the lines of all engines share.
    """

    # At EPOCH_STARTED and COMPLETED, a line is printed before user handlers run other engines.
    phase = Phase.METRICS

    def __init__(self, report: Report) -> None:
        self._report = report
        self._name: str | None = None
        self._sources: list[Postfix] = []
        self._handle: RemovableEventHandle | None = None
        self._counter: Counter | None = None
        self._ended: Epoch | None = None
        self._others: dict[EpochLines, Group] | None = None
        self._has_printed = False

    def attach(self, engine: EngineProtocol, source: Postfix, name: str | None) -> RemovableEventHandle:
        """Print lines with the values that a bar of the engine shows.

        Args:
            engine: Engine whose epochs are reported.
            source: Values of the bar.
            name: Name of the engine; the lines show the first name that is given.

        Returns:
            A handle that removes these values from the lines or, with the last of them, the lines.
        """
        self._name = self._name or name
        self._sources.append(source)
        if self._handle is None:
            self._handle = RemovableEventHandle.join(
                engine.add_event_handler(Events.EPOCH_STARTED, self._begin),
                engine.add_event_handler(Events.EPOCH_COMPLETED, self._complete),
                engine.add_event_handler(Events.COMPLETED, self._complete_run),
                engine.add_event_handler(Events.INTERRUPT, self._interrupt),
                engine.add_event_handler(Events.TEARDOWN, self._tear_down),
            )
        return RemovableEventHandle(partial(self._detach, source))

    def insert(self, inner: EpochLines, group: Group) -> bool:
        """Add the values of an engine that ran within the current epoch; return whether an epoch is open."""
        if self._others is None:
            return False
        # The values of the last run stand last.
        self._others.pop(inner, None)
        self._others[inner] = group
        return True

    def _detach(self, source: Postfix) -> None:
        self._sources.remove(source)
        if not self._sources and self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _begin(self, engine: EngineProtocol) -> None:
        self._print(engine)
        state, best = engine.state, self._report.best
        self._report.runs.enter(engine)
        self._counter = Counter(Unit.ITERATION_OF_EPOCH, state, engine.current_event)
        self._others = {}
        is_new = state.run_start is RunStart.NEW and state.epoch == 1
        if best is not None and is_new and self._is_outermost(engine) and not self._is_single(state):
            best.reset()

    def _complete(self, engine: EngineProtocol) -> None:
        # A run that continues after an interruption has no EPOCH_STARTED.
        self._report.runs.enter(engine)
        state = engine.state
        counter = self._counter or Counter(Unit.ITERATION_OF_EPOCH, state, Events.EPOCH_STARTED)
        word = self._name or self._report.word
        is_named = word is not None and counter.epochs(state) == 1
        self._ended = Epoch(state.epoch, f"{word}" if is_named else counter.title_of_epoch(state, word))

    def _complete_run(self, engine: EngineProtocol) -> None:
        # Evaluators may publish metrics at COMPLETED.
        if not self._is_single(engine.state):
            self._print(engine)

    def _interrupt(self, engine: EngineProtocol) -> None:
        self._print(engine)
        self._report.runs.leave(engine)

    def _tear_down(self, engine: EngineProtocol) -> None:
        self._print(engine)
        self._others = None
        best, state = self._report.best, engine.state
        is_whole = self._has_printed and state.outcome is RunOutcome.COMPLETED and not self._is_single(state)
        if best is not None and is_whole and self._is_outermost(engine) and not best.is_known and rank() == 0:
            warnings.warn(
                f"ProgressBar: no epoch line has a metric {best.metric!r}; check best (available metrics: "
                f"{list(state.metrics)}), and attach the ProgressBar to the engine that computes the metric",
                GlowplugWarning,
                stacklevel=2,
            )
        self._report.runs.leave(engine)

    def _print(self, engine: EngineProtocol) -> None:
        """Print the line of the epoch that has ended, or add its values to the line of the outer engine."""
        ended, self._ended = self._ended, None
        if ended is None:
            return
        others, self._others = self._others or {}, None
        if rank() != 0:
            return
        group, state = Group(self._name, self._leaves(engine.state)), engine.state
        outer = self._report.runs.outer(engine)
        lines = None if outer is None else outer.stash.get(self._report.key, None)
        if lines is None or not self._is_single(state) or not lines.insert(self, group):
            groups = [Group(None, group.leaves), *others.values()]
            self._has_printed = True
            self._report.style.print_spans(list(self._spans(ended, groups, state)))

    def _is_outermost(self, engine: EngineProtocol) -> bool:
        return self._report.runs.outer(engine) is None

    def _is_single(self, state: State) -> bool:
        return self._counter is not None and self._counter.epochs(state) == 1

    def _leaves(self, state: State) -> list[Leaf]:
        """Return what the bars of the engine show; if no bar has names of metrics, return all metrics as well."""
        all_metrics = not any(source.has_metric_names for source in self._sources)
        leaves = (leaf for source in self._sources for leaf in source.leaves(state, all_metrics=all_metrics))
        return list({leaf.name: leaf for leaf in leaves}.values())

    def _spans(self, ended: Epoch, groups: Sequence[Group], state: State) -> Iterator[Span]:
        best = None if self._is_single(state) else self._best_leaf(groups)
        yield Span(ended.title, "title")
        separator = "  "
        for group in groups:
            for index, leaf in enumerate(group.leaves):
                prefix = f"{separator}{f'{group.name}: ' if group.name else ''}" if index == 0 else ", "
                yield Span(prefix)
                yield self._span_of(leaf, ended.number) if leaf is best else Span(f"{leaf.name}={leaf.text}")
                separator = " | "
        yield Span(f"{separator}{format_duration(state.times.get('EPOCH_COMPLETED') or 0.0)}", "time")

    def _span_of(self, leaf: Leaf, epoch: int) -> Span:
        """Return a value with the best value so far."""
        text, best = f"{leaf.name}={leaf.text}", self._report.best
        if best is None:
            return Span(text)
        if best.follow(float(leaf.value), epoch):
            return Span(f"{text} (best)", "best")
        return Span(text if best.value is None else f"{text} (best {best.value:.4g} in epoch {best.epoch})")

    def _best_leaf(self, groups: Sequence[Group]) -> Leaf | None:
        """Return the value that is compared over the epochs: that of the last engine that has it."""
        if self._report.best is None:
            return None
        wanted = self._report.best.metric
        for group in reversed(groups):
            for leaf in group.leaves:
                if wanted in (leaf.name, f"{group.name}/{leaf.name}") and not isinstance(leaf.value, str):
                    return leaf
        return None


def format_duration(seconds: float) -> str:
    """Return a duration such as ``4.2 s``, ``1:05`` or ``1:01:05``.

    Example:
        >>> format_duration(4.21), format_duration(65), format_duration(3665)
        ('4.2 s', '1:05', '1:01:05')
    """
    if seconds < 59.95:  # noqa: PLR2004 - is not rounded to 60 s
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
