"""The handler that shows progress bars."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from glowplug import CallableEventWithFilter, Events, Phase, RemovableEventHandle, StashKey
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_progress.best import Best
from glowplug_progress.display import Display
from glowplug_progress.epoch_lines import EpochLines, Report
from glowplug_progress.options import (
    check_best,
    check_bool,
    check_choice,
    check_rich_options,
    check_tqdm_options,
)
from glowplug_progress.postfix import Postfix
from glowplug_progress.runs import Runs

if TYPE_CHECKING:
    from glowplug_progress.style import Style

ORDER = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_COMPLETED,
    Events.COMPLETED,
)


class ProgressBar:
    r"""Handler that shows bars of iterations or epochs, followed by metrics and other values.

    A ProgressBar can be attached several times, to the same engine or to different engines. Each call of :meth:`attach` adds a
    bar. A bar closes at its closing event, and when the run ends or is interrupted. If an engine runs inside another one, its bar
    appears below the other bars and disappears when it ends. Values are read only when a bar is redrawn, about ten times a
    second, so most steps do not wait for tensors on a device. Only rank 0 shows bars and lines.

    Lines that you print while a bar is open appear above the bar. Text that you print with ``end=""`` appears when its line is
    completed or when the last bar closes.

    With ``epoch_lines``, each ended epoch of the outermost engine leaves a line with its number, its values, those of the
    evaluators that ran within the epoch, and its duration. A line shows the values that the bars of the engine show, and all
    metrics if ``metric_names`` was not given. In a file, nothing but these lines is written.

    Args:
        persist: Whether the last line of a closed bar stays on the screen. A bar leaves one line per epoch, or one line per run
            if the bar covers the whole run. Defaults to ``False``.
        bar_format: Format string for tqdm; ``"{l_bar}{bar}{r_bar}"`` is tqdm's default. Without a format, a bar looks like
            ``Epoch [2/5]: [30/100]  30%|███       , loss=0.5 [00:03<00:07, 10.00it/s]``.
        style: Library that draws the bars, ``"tqdm"`` (default) or ``"rich"``.
        epoch_lines: Whether a line stays on the screen for each ended epoch. By default, this is the case with ``style="rich"``
            and if ``best`` is given.
        best: Name of a metric whose best value so far is marked in the lines. If several engines have this metric, the value of
            the evaluator that ran last counts; ``"val/accuracy"`` is the metric of the engine that was attached with
            ``name="val"``. The best value is part of the engine's ``state_dict()``. Defaults to ``None``.
        mode: ``"max"`` (default) if a larger value of that metric is better, or ``"min"``.
        **options: Further options of the style. For ``"tqdm"``: options of tqdm, such as ``desc``, ``ncols``, ``mininterval``,
            ``file`` and ``disable``. For ``"rich"``: ``console`` (a ``rich.console.Console``; by default that of
            ``rich.get_console()``) or ``file``, ``desc``, ``mininterval`` (seconds between redraws, by default 0.1), ``total``
            and ``disable``.

    Raises:
        TypeError: If an option is unknown, belongs to :meth:`attach` or to the other style, or has the wrong type.
        ValueError: If ``style``, ``mode`` or ``mininterval`` has an invalid value, or if options exclude each other.

    Example:
        >>> import io
        >>> from glowplug import Engine
        >>> screen = io.StringIO()
        >>> trainer = Engine(lambda engine, batch: {"loss": 1 / batch})
        >>> bar = ProgressBar(persist=True, file=screen, bar_format="{desc}{n_fmt} of {total_fmt}{postfix}")
        >>> handle = bar.attach(trainer, output_transform=lambda output: output)
        >>> _ = trainer.run([1, 2, 4, 8], max_epochs=2)
        >>> print(screen.getvalue().split("\r")[-1], end="")
        Epoch [2/2]: 4 of 4, loss=0.125
    """

    phase = Phase.LOGGING

    def __init__(
        self,
        persist: bool = False,
        bar_format: str | None = None,
        *,
        style: Literal["tqdm", "rich"] = "tqdm",
        epoch_lines: bool | None = None,
        best: str | None = None,
        mode: Literal["max", "min"] = "max",
        **options: Any,
    ) -> None:
        check_bool("persist", persist)
        check_choice("style", style, ("tqdm", "rich"))
        check_choice("mode", mode, ("max", "min"))
        if epoch_lines is not None:
            check_bool("epoch_lines", epoch_lines)
        check_best(best, epoch_lines)
        has_lines = style == "rich" or best is not None if epoch_lines is None else epoch_lines
        self._settings = {
            "persist": persist,
            "bar_format": bar_format,
            "style": style,
            "epoch_lines": epoch_lines,
            "best": best,
            "mode": mode,
            **options,
        }
        of_attach = set(inspect.signature(ProgressBar.attach).parameters) - {"self", "engine"}
        if style == "rich":
            given = options if bar_format is None else {"bar_format": bar_format, **options}
            check_rich_options(given, of_attach)
            from glowplug_progress.rich_bar import RichStyle

            self._style: Style = RichStyle(options, persist=persist)
        else:
            check_tqdm_options(options, of_attach)
            from glowplug_progress.tqdm_bar import TqdmStyle

            tqdm_options = {"leave": persist, "bar_format": bar_format, **options}
            self._style = TqdmStyle(tqdm_options, only_lines=has_lines)
        self._desc: str | None = options.get("desc")
        self._best = None if best is None else Best(best, mode)
        self._runs = Runs()
        self._report = Report(self._style, self._runs, self._best, self._desc) if has_lines else None
        self._displays_key = StashKey[dict[Events, Display]]()

    def attach(
        self,
        engine: EngineProtocol,
        metric_names: Sequence[str] | str | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        event_name: AnyEvent = Events.ITERATION_COMPLETED,
        closing_event_name: AnyEvent = Events.EPOCH_COMPLETED,
        state_attributes: Sequence[str] | None = None,
        name: str | None = None,
    ) -> RemovableEventHandle:
        """Show a bar for an engine.

        Args:
            engine: Engine whose progress the bar shows.
            metric_names: Names of metrics in ``engine.state.metrics``, or ``"all"`` for all metrics. If a name is missing at
                the end of a completed run, a warning reports the name.
            output_transform: Function that takes ``engine.state.output`` and returns a value, or a mapping of names to values.
            event_name: Event at which the bar advances, with or without a filter.
            closing_event_name: Event at which the bar closes. ``EPOCH_COMPLETED`` shows one bar per epoch, and ``COMPLETED``
                shows one bar per run.
            state_attributes: Names of further attributes of ``engine.state`` to show.
            name: Name of the engine before its bar and its values in a line, such as ``"val"``. By default, the option ``desc``
                or the unit that the bar counts.

        Returns:
            A handle that removes the bar.

        Raises:
            ValueError: If ``event_name`` does not come before ``closing_event_name`` in the order ``STARTED``,
                ``EPOCH_STARTED``, ``ITERATION_STARTED``, ``ITERATION_COMPLETED``, ``EPOCH_COMPLETED``, ``COMPLETED``. Other
                events are refused, and so is a filter on ``closing_event_name``.
            TypeError: If ``metric_names`` is not a list, a tuple or ``"all"``, if ``state_attributes`` is not a list or a tuple,
                if ``output_transform`` is not callable, or if ``name`` is not text.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> ProgressBar().attach(FakeEngine(), closing_event_name=Events.STARTED)  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            ValueError: ProgressBar: event_name must come before closing_event_name in the order STARTED, ...
        """
        event, closing = _checked(event_name, closing_event_name)
        postfix = Postfix(metric_names, output_transform, state_attributes)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"ProgressBar: name must be text, got {name!r}")
        handle = self._display(event, closing, postfix, name).attach(engine, event_name)
        if self._report is None:
            return handle
        lines = engine.stash.setdefault(self._report.key, EpochLines(self._report))
        lines.owner, lines.label = self, type(self).__name__
        handles = [handle, lines.attach(engine, postfix, name)]
        if self._best is not None:
            key = f"{type(self).__name__}:{self._best.metric}"
            handles.append(engine.register_state(key, self._best))
        return RemovableEventHandle.join(*handles)

    def __call__(self, engine: EngineProtocol) -> None:
        """Advance a bar that shows no values; open the bar first if necessary.

        ``engine.add_event_handler(event, ProgressBar())`` registers this method. :meth:`attach` has more options.

        Args:
            engine: Engine whose progress the bar shows.

        Raises:
            ValueError: If a bar cannot advance at this event.
        """
        event = engine.current_event
        if not isinstance(event, Events) or event not in ORDER[:-1]:
            raise ValueError(
                f"ProgressBar cannot advance at {event!r}; use ProgressBar().attach(engine, event_name=..., "
                f"closing_event_name=...) with two of the events {_names()}"
            )
        displays = engine.stash.setdefault(self._displays_key, {})
        display = displays.get(event)
        if display is None:
            per_epoch = event in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED)
            closing = Events.EPOCH_COMPLETED if per_epoch else Events.COMPLETED
            display = displays[event] = self._display(event, closing, Postfix())
            display.attach_closing(engine)
        display.show(engine)

    def log_message(self, message: str) -> None:
        """Print a line above the open bars.

        Args:
            message: The line.

        Example:
            >>> ProgressBar().log_message("learning rate halved")
            learning rate halved
        """
        self._style.print_message(message)

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not attached to any engine.
        return {"_settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ProgressBar.__init__(self, **state["_settings"])

    def _display(self, event: Events, closing: Events, postfix: Postfix, name: str | None = None) -> Display:
        display = Display(event, closing, postfix, self._style, self._runs, name or self._desc)
        display.owner, display.label = self, type(self).__name__
        return display


def _checked(event_name: object, closing_event_name: object) -> tuple[Events, Events]:
    """Check both events and return them without filters."""
    if isinstance(closing_event_name, CallableEventWithFilter) and closing_event_name.filter is not None:
        raise ValueError(f"ProgressBar: closing_event_name cannot be filtered, got {closing_event_name!r}")
    event = _plain("event_name", event_name)
    closing = _plain("closing_event_name", closing_event_name)
    if ORDER.index(event) >= ORDER.index(closing):
        raise ValueError(
            f"ProgressBar: event_name must come before closing_event_name in the order {_names()}; got {event!r} and "
            f"{closing!r}"
        )
    return event, closing


def _plain(name: str, given: object) -> Events:
    event = given.event if isinstance(given, CallableEventWithFilter) else None
    if not isinstance(event, Events) or event not in ORDER:
        raise ValueError(f"ProgressBar: {name} must be one of {_names()}; got {given!r}")
    return event


def _names() -> str:
    return ", ".join(event.name for event in ORDER)
