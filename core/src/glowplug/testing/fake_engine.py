"""Fake engine for testing handlers without data, a training loop or torch."""

from __future__ import annotations

from typing import Any, Literal

from glowplug.engine import HandlerTable
from glowplug.events import AnyEvent, EventEnum, Events
from glowplug.handles import RemovableEventHandle
from glowplug.state import RunOutcome, RunStart
from glowplug.typing import EngineProtocol

__all__ = ["FakeEngine"]


class FakeEngine(HandlerTable):
    """Engine for tests: it registers handlers, fires events on request, and records stop requests.

    ``FakeEngine`` handles events as ``Engine`` does: both classes pass the tests of ``EngineContract``.

    Args:
        parent: The engine whose step or handler is supposed to run this engine; ``None`` if there is none.

    Example:
        >>> from glowplug import Events
        >>> fake = FakeEngine()
        >>> _ = fake.add_event_handler(Events.EPOCH_COMPLETED(every=2), lambda engine: engine.terminate())
        >>> fake.fire(Events.EPOCH_COMPLETED, epoch=1, metrics={"accuracy": 0.9}).terminated
        False
        >>> fake.fire(Events.EPOCH_COMPLETED, epoch=2).terminated
        True
    """

    def __init__(self, parent: EngineProtocol | None = None) -> None:
        super().__init__()
        self.parent = parent
        self.should_terminate: bool | str = False
        self.should_terminate_single_epoch: bool | str = False
        self.should_interrupt = False
        self._was_loaded = False
        self.fired: list[EventEnum | str] = []
        self.attached: list[Any] = []

    @property
    def terminated(self) -> bool:
        """Whether a handler called ``terminate()``."""
        return bool(self.should_terminate)

    def fire(self, event_name: AnyEvent, *, error: BaseException | None = None, **state: Any) -> FakeEngine:
        """Set attributes of the state, then run the event's handlers.

        Args:
            event_name: The event to fire.
            error: The exception passed to handlers of ``EXCEPTION_RAISED``.
            **state: Attributes of ``state`` to set, such as ``epoch=3`` or ``metrics={...}``. Unless you pass
                ``run_start``, firing ``STARTED`` sets it to ``LOADED`` after :meth:`load_state_dict`, otherwise to
                ``CONTINUED`` if ``iteration`` is above 0, or else to ``NEW``. Unless you pass ``epoch_start``, firing
                ``STARTED`` or ``EPOCH_STARTED`` sets it to ``iteration``.

        Returns:
            The engine itself, so that calls can be chained.

        Raises:
            ValueError: If the event is unknown, or if ``error`` is missing for ``EXCEPTION_RAISED``.
        """
        for name, value in state.items():
            setattr(self.state, name, value)
        channel = self._channel(event_name)
        if channel.key is Events.STARTED and "run_start" not in state:
            self.state.run_start = self._next_run_start()
        if channel.key in {Events.STARTED, Events.EPOCH_STARTED} and "epoch_start" not in state:
            self.state.epoch_start = self.state.iteration
        if channel.key is Events.STARTED and self.state.run_start is RunStart.NEW:
            self._begin_run()
        if channel.key is Events.EXCEPTION_RAISED and error is None:
            raise ValueError(
                "fire(Events.EXCEPTION_RAISED) requires the exception that was raised; pass it as error=..."
            )
        arguments = {Events.EXCEPTION_RAISED: error, Events.TERMINATE_SINGLE_EPOCH: self.state.iteration}
        if channel.key in arguments:
            self.fired.append(channel.key)
            self._fire_with(channel, arguments[channel.key])
        else:
            self.fire_event(event_name)
        return self

    def _next_run_start(self) -> RunStart:
        if self._was_loaded:
            self._was_loaded = False
            return RunStart.LOADED
        return RunStart.CONTINUED if self.state.iteration else RunStart.NEW

    def end_run(self, outcome: RunOutcome = RunOutcome.COMPLETED) -> FakeEngine:
        """Set the outcome of the run, fire ``COMPLETED`` if the run completed, and then fire ``TEARDOWN``."""
        self.state.outcome = outcome
        if outcome is RunOutcome.COMPLETED:
            self.fire(Events.COMPLETED)
        return self.fire(Events.TEARDOWN)

    def attach(self, *handlers: Any, on_error: Literal["raise", "disable"] = "raise") -> RemovableEventHandle:
        """Attach handlers and append them to ``attached``."""
        handle = super().attach(*handlers, on_error=on_error)
        self.attached.extend(handlers)
        return handle

    def _fire(self, channel: Any) -> None:
        self.fired.append(channel.key)
        super()._fire(channel)

    def terminate(self, skip_completed: bool = False) -> None:
        """Record in ``should_terminate`` that the end of the run was requested."""
        self.should_terminate = "skip_completed" if skip_completed else True

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """Record in ``should_terminate_single_epoch`` that the end of the epoch was requested."""
        self.should_terminate_single_epoch = "skip_epoch_completed" if skip_epoch_completed else True

    def interrupt(self) -> None:
        """Record in ``should_interrupt`` that an interruption was requested."""
        self.should_interrupt = True

    def handlers_at(self, event_name: AnyEvent) -> list[Any]:
        """Return the handlers of an event, in the order in which they are called."""
        return [registration.handler for registration in self._channel(event_name).registrations]

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the attached handlers that have a state."""
        return {"handlers": self._stateful.state_dict(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the states of the attached handlers that have a state."""
        self._stateful.load_state_dict(state_dict["handlers"])
        self._was_loaded = True
