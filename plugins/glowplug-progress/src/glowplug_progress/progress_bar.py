"""The handler that shows progress bars."""

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
    r"""Handler that shows tqdm bars of iterations or epochs, followed by metrics and other values.

    A ProgressBar can be attached several times, to the same engine or to different engines. Each call of :meth:`attach` adds a
    bar. A bar closes at its closing event, and when the run ends or is interrupted. Values are read only when tqdm redraws the
    bar, about ten times a second, so most steps do not wait for tensors on a device. Only rank 0 shows bars.

    Lines that you print while a bar is open appear above the bar. Text that you print with ``end=""`` appears when its line is
    completed or when the last bar closes.

    Args:
        persist: Whether the last line of a closed bar stays on the screen. A bar leaves one line per epoch, or one line per run
            if the bar covers the whole run. Defaults to ``False``.
        bar_format: Format string for tqdm; ``"{l_bar}{bar}{r_bar}"`` is tqdm's default. Without a format, a bar looks like
            ``Epoch [2/5]: [30/100]  30%|███       , loss=0.5 [00:03<00:07, 10.00it/s]``.
        **tqdm_kwargs: Further options of tqdm, such as ``desc``, ``ncols``, ``mininterval``, ``file`` and ``disable``.

    Raises:
        TypeError: If an option is unknown or belongs to :meth:`attach`, or if ``persist`` is not a bool.

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
        if not isinstance(persist, bool):
            raise TypeError(f"ProgressBar: persist must be True or False, got {persist!r}")
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
            engine: Engine whose progress the bar shows.
            metric_names: Names of metrics in ``engine.state.metrics``, or ``"all"`` for all metrics. If a name is missing at
                the end of a completed run, a warning reports the name.
            output_transform: Function that takes ``engine.state.output`` and returns a value, or a mapping of names to values.
            event_name: Event at which the bar advances, with or without a filter.
            closing_event_name: Event at which the bar closes. ``EPOCH_COMPLETED`` shows one bar per epoch, and ``COMPLETED``
                shows one bar per run.
            state_attributes: Names of further attributes of ``engine.state`` to show.

        Returns:
            A handle that removes the bar.

        Raises:
            ValueError: If ``event_name`` does not come before ``closing_event_name`` in the order ``STARTED``,
                ``EPOCH_STARTED``, ``ITERATION_STARTED``, ``ITERATION_COMPLETED``, ``EPOCH_COMPLETED``, ``COMPLETED``. Other
                events are refused, and so is a filter on ``closing_event_name``.
            TypeError: If ``metric_names`` is not a list, a tuple or ``"all"``, if ``state_attributes`` is not a list or a tuple,
                or if ``output_transform`` is not callable.

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
        from glowplug_progress.tqdm_bar import LazyBar

        LazyBar.write(message, file=self._settings.get("file"))

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not attached to any engine.
        return {"_settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._displays_key = StashKey()

    def _display(self, event: Events, closing: Events, postfix: Postfix) -> Display:
        from glowplug_progress.display import Display

        display = Display(event, closing, postfix, self._settings)
        display.owner, display.label = self, type(self).__name__
        return display


def _check_options(options: dict[str, Any]) -> None:
    """Refuse options that tqdm does not have."""
    from tqdm.std import tqdm

    # attach() provides the postfix, and the bar does not iterate over data.
    known = set(inspect.signature(tqdm.__init__).parameters) - {"self", "iterable", "postfix", "kwargs"}
    of_attach = set(inspect.signature(ProgressBar.attach).parameters) - {"self", "engine"}
    for name in options:
        if name in of_attach:
            raise TypeError(
                f"ProgressBar has no option {name!r}; pass it to attach(): ProgressBar().attach(engine, {name}=...)"
            )
        if name not in known | {"display"}:
            close = get_close_matches(name, sorted({"persist", *known}), n=1)
            advice = f"did you mean {close[0]!r}?" if close else "see the options of tqdm.tqdm"
            raise TypeError(f"ProgressBar has no option {name!r}; {advice}")


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
