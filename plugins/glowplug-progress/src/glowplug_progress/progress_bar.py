"""The handler that shows how far a run is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from glowplug import CallableEventWithFilter, Events, Phase, RemovableEventHandle, StashKey
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
    r"""Shows tqdm bars of iterations or epochs, with values behind them.

    One object can be attached any number of times, to one engine or several; each time makes a bar of its own. A bar
    closes at its closing event, and whenever the run ends or is interrupted. The values are read only when tqdm
    redraws, about ten times a second, so that a step does not wait for tensors on a device. Only rank 0 shows bars.

    Args:
        persist: whether a bar stays on the screen when it has closed.
        bar_format: tqdm's format. Default: ``Epoch [2/5]: [30/100]  30%|███       , loss=0.5 [00:03<00:07]``;
            ``"{l_bar}{bar}{r_bar}"`` is tqdm's own.
        **tqdm_kwargs: Further options of tqdm, such as ``desc``, ``ncols``, ``mininterval``, ``file``, ``disable``.

    Raises:
        TypeError: An option is unknown, or belongs to :meth:`attach`.

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
        _check_options(tqdm_kwargs)
        self._settings = {"leave": persist, "bar_format": bar_format, **tqdm_kwargs}
        self._displays_key = StashKey[dict[Events, "Display"]]()

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
            A handle that removes the bar.

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

        This is for ``engine.add_event_handler(event, ProgressBar())``; :meth:`attach` has more options.

        Args:
            engine: The engine to show.

        Raises:
            ValueError: A bar cannot move at this event.
        """
        event = engine.current_event
        if not isinstance(event, Events) or event not in ORDER[:-1]:
            raise ValueError(
                f"ProgressBar cannot move at {event!r}; use ProgressBar().attach(engine, event_name=..., "
                f"closing_event_name=...) with events of {_names()}"
            )
        displays = engine.stash.setdefault(self._displays_key, {})
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
        from glowplug_progress.display import LazyBar

        LazyBar.write(message, file=self._settings.get("file"))

    def __getstate__(self) -> dict[str, Any]:
        # A copy is attached to no engine.
        return {"_settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._displays_key = StashKey()

    def _display(self, event: Events, closing: Events, postfix: Postfix) -> Display:
        from glowplug_progress.display import Display

        return Display(event, closing, postfix, self._settings)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse options that tqdm does not have."""
    from tqdm.std import tqdm

    # The text behind the bar is made of metrics and outputs, and the bar iterates over nothing.
    known = set(inspect.signature(tqdm.__init__).parameters) - {"self", "iterable", "postfix", "kwargs"}
    of_attach = set(inspect.signature(ProgressBar.attach).parameters) - {"self", "engine"}
    for name in options:
        if name in of_attach:
            raise TypeError(
                f"ProgressBar has no option {name!r}, but attach() has: ProgressBar().attach(engine, {name}=...)"
            )
        if name not in known | {"display"}:
            close = get_close_matches(name, sorted({"persist", *known}), n=1)
            advice = f"did you mean {close[0]!r}?" if close else "see the options of tqdm.tqdm"
            raise TypeError(f"ProgressBar has no option {name!r}; {advice}")


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
