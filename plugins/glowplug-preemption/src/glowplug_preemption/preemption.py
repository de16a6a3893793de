"""The handler that saves a checkpoint and ends the process after a signal or a time limit."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NoReturn

from glowplug import Events, Phase, RemovableEventHandle, RunOutcome, StashKey
from glowplug.distributed import all_reduce, rank
from glowplug.exceptions import PreemptionExit
from glowplug.loggers import close_loggers
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_preemption.checkpoints import save_all, savers
from glowplug_preemption.phased_call import PhasedCall
from glowplug_preemption.signals import SignalWatch
from glowplug_preemption.slurm import requeue as requeue_job

_log = logging.getLogger("glowplug_preemption")

_ATTACHED = StashKey["Preemption"]()

# Beside the numbers of signals, why a run has to end.
TIME_LIMIT, NOT_DUE = 1000, -1

# A signal with which a user or a cluster cancels a job, so the job is not requeued.
_CANCELLING = {"SIGTERM", "SIGINT"}

# After interrupt(), one of these events is the first one of the next call of run().
_FIRST_AFTER_INTERRUPT = Events.EPOCH_STARTED | Events.GET_BATCH_STARTED | Events.ITERATION_STARTED


class Preemption:
    """Save a checkpoint and end the process after a signal or a time limit.

    After the first signal, the run continues to the end of the current iteration, including the handlers of
    ``ITERATION_COMPLETED``. A signal during a validation in a handler takes effect after all handlers of that event. Then:

    1. each checkpoint handler of the engine saves, whatever its events and filters are;
    2. ``TEARDOWN`` fires, and the loggers deliver their records and are closed with the outcome ``INTERRUPTED``;
    3. with ``requeue``, Slurm puts the job back into the queue;
    4. ``run()`` raises :class:`~glowplug.exceptions.PreemptionExit`, which ends the process with the exit code 75.

    A run that is resumed from such a checkpoint continues exactly, also in the middle of an epoch. A second signal ends the process
    at once. After the run, the former signal handlers are restored.

    With several ranks, a signal to one rank or to all of them ends the run of all ranks: they vote, save at the same iteration, and
    end with the same exit code. Attach the handler on all ranks. Only rank 0 requeues the job.

    Checkpoint handlers are the handlers in the phase ``CHECKPOINT``. A handler with a ``score_function`` does not save, because
    there is no score in the middle of an epoch. If a handler fails to save, the others still save, and ``run()`` raises the
    exception of the first one instead.

    Args:
        signals: Names of the signals. A signal that the process ignores stays ignored. If the run is not on the main thread, no
            signals are received.
        max_minutes: The run ends after this time in minutes, counted from the creation of this handler. Leave enough time
            before the limit of the job for one iteration or validation, and for the save. ``None`` (the default) means no limit.
        exit_code: Exit code of the process, from 1 to 255. Defaults to 75, which is ``EX_TEMPFAIL`` of ``sysexits.h``: try again.
        requeue: Whether to run ``scontrol requeue $SLURM_JOB_ID`` after the save. SIGTERM and SIGINT, with which users and Slurm
            cancel jobs, do not requeue the job. Defaults to ``False``.

    Attributes:
        reason: Why the last run ended: the name of the signal, or ``"max_minutes"``; ``None`` if it was not preempted.

    Raises:
        TypeError: If ``signals`` is a string instead of a list.
        ValueError: If a signal is unknown, if ``max_minutes`` is not positive, or if ``exit_code`` is not between 1 and 255.

    Example:
        >>> import signal
        >>> from glowplug import Engine
        >>> class Save:
        ...     phase = Phase.CHECKPOINT
        ...
        ...     def __call__(self, engine):
        ...         print("saved at iteration", engine.state.iteration)
        >>> def step(engine, batch):
        ...     if batch == 2:
        ...         signal.raise_signal(signal.SIGTERM)
        >>> trainer = Engine(step)
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED(every=5), Save())
        >>> handle = Preemption().attach(trainer)
        >>> try:
        ...     trainer.run([1, 2, 3], max_epochs=10)
        ... except SystemExit as end:
        ...     print("exit code", end.code)
        saved at iteration 2
        exit code 75
    """

    reason: str | None

    def __init__(
        self,
        signals: Iterable[str] = ("SIGTERM", "SIGUSR1", "SIGINT"),
        *,
        max_minutes: float | None = None,
        exit_code: int = 75,
        requeue: bool = False,
    ) -> None:
        if isinstance(signals, str):
            raise TypeError(
                f"Preemption: signals must be a list of names, got {signals!r}; pass [{signals!r}]"
            )
        if max_minutes is not None and not max_minutes > 0:
            raise ValueError(f"Preemption: max_minutes must be above 0, or None, got {max_minutes!r}")
        if not 1 <= exit_code <= 255:  # noqa: PLR2004 - the range of exit codes
            raise ValueError(f"Preemption: exit_code must be an integer from 1 to 255, got {exit_code!r}")
        self.max_minutes = max_minutes
        self.exit_code = exit_code
        self.requeue = requeue
        self.reason = None
        # Why all ranks will end the run at the next event at which it may end.
        self._agreed: str | None = None
        # The iteration of the last event at which the run may end.
        self._checked_at = -1
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._signals = SignalWatch(signals)
        # Handlers that are registered only while the run is interrupted, or while it ends.
        self._resume_handle = self._end_handle = RemovableEventHandle()

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED
    ) -> RemovableEventHandle:
        """End the run of an engine after a signal or the time limit.

        Args:
            engine: The engine to end, usually the trainer.
            event_name: Event at which the run may end, besides ``STARTED`` and ``EPOCH_COMPLETED``. If your own step accumulates
                gradients over 4 iterations, for example, pass ``Events.ITERATION_COMPLETED(every=4)``; the step of
                ``create_supervised_trainer`` saves its gradients.

        Returns:
            A handle that detaches the handler.

        Raises:
            ValueError: If the engine already has a Preemption handler.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> engine = FakeEngine()
            >>> handle = Preemption(max_minutes=60).attach(engine)
            >>> handle.remove()
        """
        if engine.stash.get(_ATTACHED) is not None:
            raise ValueError(
                "Preemption: this engine already has a Preemption handler; attach one handler with all signals"
            )
        start = PhasedCall(self, self._start, "Preemption: receive signals", Phase.METRICS)
        # Last, so that a signal during a validation ends the run after the event of the validation.
        check = PhasedCall(self, self._check, "Preemption", Phase.CHECKPOINT)
        save = PhasedCall(self, self._on_interrupt, "Preemption: save", Phase.METRICS)
        restore = PhasedCall(self, self._on_teardown, "Preemption: restore signals", Phase.METRICS)
        save_last = PhasedCall(self, self._on_teardown_of_completed, "Preemption: save", Phase.CHECKPOINT)
        with ExitStack() as undo:
            for event, handler in (
                (Events.STARTED, start),
                (Events.STARTED | Events.EPOCH_COMPLETED, check),
                (event_name, check),
                (Events.INTERRUPT, save),
                (Events.EXCEPTION_RAISED, self._on_exception),
                (Events.TEARDOWN, restore),
                (Events.TEARDOWN, save_last),
            ):
                undo.enter_context(engine.add_event_handler(event, handler))
            engine.stash[_ATTACHED] = self
            undo.callback(engine.stash.__delitem__, _ATTACHED)
            undo.callback(self._forget_interruption)
            return RemovableEventHandle(undo.pop_all().close)

    # During the run

    def _start(self, engine: EngineProtocol) -> None:
        self.reason = self._agreed = None
        # A new run starts instead of the interrupted one.
        self._resume_handle.remove()
        if not self._signals.install():
            _log.warning("the run is not on the main thread, so Preemption receives no signals")
        if not savers(engine):
            _log.warning(
                "Preemption will end the run without a checkpoint: no handler of this engine is in the phase CHECKPOINT and "
                "saves without a score; attach a handler such as ModelCheckpoint to this engine"
            )

    def _check(self, engine: EngineProtocol) -> None:
        """Request the end of the run if it is due on this rank, or end the run if the ranks have agreed on its end."""
        self._checked_at = engine.state.iteration
        if self._agreed is not None:
            self._leave(engine, self._agreed)
        elif self._due() is not None:
            engine.interrupt()

    def _on_interrupt(self, engine: EngineProtocol) -> None:
        """Save, and end the run; the handlers of ``INTERRUPT``, after which a run continues, do not run."""
        reason = self._due_on_any_rank()
        if reason is not None and engine.state.iteration == self._checked_at:
            self._leave(engine, reason)
        if reason is not None:
            # The vote ended at an iteration after which the run may not end.
            self._agreed = reason
            engine.should_interrupt = False
            return
        # Another handler interrupted the run, and the script continues.
        self._signals.restore()
        self._resume_handle.remove()
        resume = PhasedCall(self, self._resume, "Preemption: receive signals", Phase.METRICS)
        self._resume_handle = engine.add_event_handler(_FIRST_AFTER_INTERRUPT, resume)

    def _forget_interruption(self) -> None:
        self._resume_handle.remove()

    def _resume(self, _engine: EngineProtocol) -> None:
        self._resume_handle.remove()
        self._signals.install()

    def _on_exception(self, engine: EngineProtocol, exception: BaseException) -> None:
        """Save if a signal to all processes of the job has killed a data worker; no iteration is in progress then."""
        is_from_worker = isinstance(exception, RuntimeError) and "DataLoader worker" in str(exception)
        if self._signals.received is not None and is_from_worker and engine.state.batch is None:
            self._leave(engine, self._signals.received.name)

    def _due(self) -> int | None:
        """Return why the run has to end on this rank, as the number of a signal or ``TIME_LIMIT``; ``None`` if it may continue."""
        if self._signals.received is not None:
            return self._signals.received
        is_late = self._deadline is not None and time.monotonic() >= self._deadline
        return TIME_LIMIT if is_late else None

    def _due_on_any_rank(self) -> str | None:
        """Return why the run has to end on at least one rank; all ranks call this method at the same event."""
        number = all_reduce(self._due() or NOT_DUE, "MAX")
        if number == NOT_DUE:
            return None
        return "max_minutes" if number == TIME_LIMIT else signal.Signals(number).name

    # The end of the run

    def _leave(self, engine: EngineProtocol, reason: str) -> NoReturn:
        """Save, and raise the exception that ends the run."""
        self._save(engine, reason)
        # TEARDOWN may still write checkpoints and records; what ends the process comes last.
        end = PhasedCall(self, self._end, "Preemption: end", Phase.CHECKPOINT)
        self._end_handle = engine.add_event_handler(Events.TEARDOWN, end)
        raise PreemptionExit(self.exit_code)

    def _save(self, engine: EngineProtocol, reason: str) -> None:
        self.reason = reason
        self._signals.end_at_next()
        saved = save_all(engine, savers(engine))
        _log.warning(
            "%s at epoch %d, iteration %d: %s saved; the process ends with exit code %d",
            self.reason,
            engine.state.epoch,
            engine.state.iteration,
            ", ".join(saved) or "nothing was",
            self.exit_code,
        )

    def _end(self, _engine: EngineProtocol) -> None:
        """Close the loggers, requeue the job and restore the signals."""
        self._end_handle.remove()
        close_loggers(RunOutcome.INTERRUPTED)
        if self.requeue and self.reason not in _CANCELLING and rank() == 0:
            requeue_job()
        self._signals.restore()

    def _on_teardown(self, engine: EngineProtocol) -> None:
        """Restore the signals after a run that was not preempted."""
        is_preempted = self.reason is not None or self._signals.received is not None
        if not is_preempted or engine.state.outcome is RunOutcome.FAILED:
            self._signals.restore()

    def _on_teardown_of_completed(self, engine: EngineProtocol) -> None:
        """Save, and end the process, if a signal arrived after the last iteration of the run."""
        if engine.state.outcome not in {RunOutcome.COMPLETED, RunOutcome.TERMINATED}:
            return
        reason = self._due_on_any_rank()
        if reason not in (None, "max_minutes"):
            self._save(engine, reason)
            self._end(engine)
            raise PreemptionExit(self.exit_code)
