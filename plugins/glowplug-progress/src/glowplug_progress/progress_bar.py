"""The handler that shows how far a run is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from glowplug import CallableEventWithFilter, Events, Phase, RemovableEventHandle
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_progress.postfix import Postfix

if TYPE_CHECKING:
    from glowplug_progress.display import Display

ORDER = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_COMPLETED,
    Events.COMPLETED,
)


class ProgressBar:
    r"""Shows tqdm bars of iterations or epochs, with values behind them (L-045).

    One object can be attached any number of times, to one engine or several; each time makes a bar of its own. A bar
    closes at its closing event, and whenever the run ends or is interrupted. The values are read only when tqdm
    redraws, about ten times a second, so that a step does not wait for tensors on a device. Only rank 0 shows bars.

    Args:
        persist: whether a bar stays on the screen when it has closed.
        bar_format: tqdm's format. Default: ``Epoch [2/5]: [30/100]  30%|███       , loss=0.5 [00:03<00:07]``;
            ``"{l_bar}{bar}{r_bar}"`` is tqdm's own.
        **tqdm_kwargs: what else tqdm takes, such as ``desc``, ``ncols``, ``mininterval``, ``file``, ``disable``.

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

    def __init__(self, persist: bool = False, bar_format: str | None = None, **tqdm_kwargs: Any) -> None:
        self._settings = {"leave": persist, "bar_format": bar_format, **tqdm_kwargs}
        self._given_straight: WeakKeyDictionary[EngineProtocol, dict[Events, Display]] = WeakKeyDictionary()

    def attach(
        self,
        engine: EngineProtocol,
        metric_names: Sequence[str] | str | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        event_name: AnyEvent = Events.ITERATION_COMPLETED,
        closing_event_name: AnyEvent = Events.EPOCH_COMPLETED,
        state_attributes: Sequence[str] | None = None,
    ) -> RemovableEventHandle:
        """Show a bar for an engine.

        Args:
            engine: the engine to show.
            metric_names: which of ``engine.state.metrics`` to show, or ``"all"``. One that is missing when the run has
                completed gives a warning.
            output_transform: takes ``engine.state.output``, returns a value to show, or a mapping of names to values.
            event_name: when the bar moves; may be filtered.
            closing_event_name: when it closes. ``EPOCH_COMPLETED`` makes one bar per epoch, ``COMPLETED`` one for the
                run.
            state_attributes: further attributes of ``engine.state`` to show.

        Returns:
            The handle that takes the bar away.

        Raises:
            ValueError: events without a place in the order of a run, or in the wrong order; a filtered closing event.
            TypeError: names that are no list, or an ``output_transform`` that cannot be called.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> ProgressBar().attach(FakeEngine(), closing_event_name=Events.STARTED)  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            ValueError: ProgressBar: event_name must come before closing_event_name in the order STARTED, ...
        """
        event, closing = _checked(event_name, closing_event_name)
        postfix = Postfix(metric_names, output_transform, state_attributes)
        return self._display(event, closing, postfix).attach(engine, event_name)

    def __call__(self, engine: EngineProtocol) -> None:
        """Show a bar without values, moving at the event that is firing.

        This is for ``engine.add_event_handler(event, ProgressBar())``; :meth:`attach` can do more.

        Args:
            engine: the engine to show.
        """
        event, _ = _checked(engine.last_event_name, Events.COMPLETED)
        displays = self._given_straight.setdefault(engine, {})
        display = displays.get(event)
        if display is None:
            per_epoch = event in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED)
            closing = Events.EPOCH_COMPLETED if per_epoch else Events.COMPLETED
            display = displays[event] = self._display(event, closing, Postfix())
            display.close_with(engine)
        display.show(engine)

    def log_message(self, message: str) -> None:
        """Print a line above the bars, without tearing them.

        Args:
            message: the line.

        Example:
            >>> ProgressBar().log_message("learning rate halved")
            learning rate halved
        """
        from glowplug_progress.bar import LazyBar

        LazyBar.write(message, file=self._settings.get("file"))

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings}  # a copy is on no engine

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._given_straight = WeakKeyDictionary()

    def _display(self, event: Events, closing: Events, postfix: Postfix) -> Display:
        from glowplug_progress.display import Display

        return Display(event, closing, postfix, self._settings)


def _checked(event_name: object, closing_event_name: object) -> tuple[Events, Events]:
    """Return the plain events."""
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
