"""The handler that stops a run when a score no longer improves."""

from __future__ import annotations

import logging
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from glowplug import Events, Phase, RemovableEventHandle, RunStart, State
from glowplug.distributed import rank
from glowplug.engine import Delegate, EngineReference
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import AnyEvent, EngineProtocol, Stateful
from glowplug_early_stopping.best_states import copied
from glowplug_early_stopping.forwarding import Forwarded
from glowplug_early_stopping.improvement import Improvement, Mode, ThresholdMode
from glowplug_early_stopping.limits import Limits, StopReason
from glowplug_early_stopping.options import (
    best_states,
    check_engine,
    checked_patience,
    events_of,
    includes,
    renamed,
)

_log = logging.getLogger("glowplug_early_stopping")


_TOO_LATE = (
    "EarlyStopping cannot stop the trainer at COMPLETED, because the run is already over; attach the handler to the evaluator, "
    "or use attach(trainer, Events.EPOCH_COMPLETED)"
)


class EarlyStopping:
    """Stop a trainer after ``patience`` evaluations in a row without an improvement, or at a given score.

    Attach the handler to the engine that computes the score, usually the evaluator. NaN is never an improvement. With
    ``mode="max"``, ``-inf`` is never an improvement; with ``mode="min"``, ``inf`` is never an improvement.

    Each new run of the trainer resets the handler. A run that continues from a loaded state retains the count and the best
    score. The trainer's ``state_dict()`` contains the handler's state. If the trainer is not yet known when the handler is
    attached, the handler's state is added to the trainer's ``state_dict()`` at the first score or earlier.

    Under ``torch.distributed``, each rank reads its own score, and all ranks stop as soon as one of them does. The metrics of
    glowplug have the same value on all ranks; use such a score with ``restore_best``.

    Args:
        patience: The run ends after this many consecutive evaluations without an improvement. Must be at least 1.
        score_function: Function of the engine that returns the score, or the name of a metric in ``engine.state.metrics``. The
            score may be a Python number, a numpy scalar or a tensor with one element.
        trainer: The engine to stop. The handler holds only a weak reference to this engine. Defaults to the engine with a
            handler that runs the evaluator. If the evaluator does not run in a handler, the default is the ``reset_engine`` of
            :meth:`attach`. Without a ``reset_engine``, the default is the engine that this handler is attached to.
        threshold: A score is an improvement if it beats the best score by more than this value. Defaults to 0.
        cumulative: Whether gains below the threshold add up. If ``False`` (default), any better score becomes the new best score,
            even if the gain is below the threshold. If ``True``, the best score changes only when a score beats it by more than
            the threshold.
        threshold_mode: ``"abs"`` if the threshold is an absolute difference, ``"rel"`` if the threshold is a fraction of the best
            score's absolute value.
        mode: ``"max"`` if a larger score is better, ``"min"`` if a smaller score is better.
        restore_best: Whether to load the states of ``to_restore`` from the evaluation with the best score when the run ends, before
            the other handlers of ``COMPLETED`` and ``TERMINATE`` run. The handler keeps a copy of these states in memory, and
            saves the copy with its own state. Defaults to ``False``.
        to_restore: The model, or a mapping of names to objects with ``state_dict()`` and ``load_state_dict()``. Required with
            ``restore_best``.
        stopping_threshold: The run stops as soon as the score reaches this value. ``None`` (the default) means no such value.
        divergence_threshold: The run stops as soon as the score is worse than this value. ``None`` (the default) means no such value.
        check_finite: Whether the run stops as soon as the score is NaN or infinite. Defaults to ``False``: the run continues, and only
            ``inf`` with ``mode="max"``, or ``-inf`` with ``mode="min"``, is an improvement.
        min_evaluations: Before this number of evaluations in a run, neither the patience nor the divergence threshold stops the
            run. Defaults to 0.
        state_key: Key of the handler's state in the trainer's ``state_dict()``. Defaults to the class name.
        min_delta: Former name of ``threshold``.
        min_delta_mode: Former name of ``threshold_mode``.
        cumulative_delta: Former name of ``cumulative``.

    Each option except ``restore_best`` and ``to_restore`` is also an attribute. A new value of any option except ``state_key``
    takes effect at the next score.

    Attributes:
        best_score: Best score of the run; ``None`` before the first score.
        best_epoch: Epoch of the trainer in which the best score was measured; ``None`` before the first score.
        counter: Number of evaluations since the last improvement.
        evaluations: Number of evaluations in the run.
        stopped_epoch: Epoch in which the trainer was stopped; ``None`` if it was not stopped.
        stop_reason: Why the trainer was stopped, as a :class:`StopReason`; ``None`` if it was not stopped.
        stop_message: The reason as a sentence with the scores; ``None`` if it was not stopped.

    Raises:
        ValueError: If the patience is not an integer of at least 1, if the threshold is negative or not finite, or if a mode is
            unknown. Also if an option is given under both its current and its former name, if a stopping or divergence threshold is
            not finite, or if only one of ``restore_best`` and ``to_restore`` is given.
        TypeError: If ``score_function`` is neither a callable nor a string, if ``trainer`` is not an engine, or if an object to
            restore has no state.

    Example:
        >>> from glowplug import Engine
        >>> accuracy = iter([0.5, 0.7, 0.6, 0.7, 0.9])
        >>> trainer = Engine(lambda engine, batch: next(accuracy))
        >>> stopping = EarlyStopping(patience=2, score_function=lambda engine: engine.state.output)
        >>> handle = stopping.attach(trainer, Events.EPOCH_COMPLETED)
        >>> trainer.run([0], max_epochs=5).outcome
        <RunOutcome.TERMINATED: 'terminated'>
        >>> stopping.stopped_epoch, stopping.stop_reason
        (4, <StopReason.PATIENCE: 'patience exhausted'>)
        >>> stopping.stop_message
        'patience exhausted: no improvement on 0.7 in the last 2 evaluations'
    """

    best_score: float | None
    best_epoch: int | None
    counter: int
    evaluations: int
    stopped_epoch: int | None
    stop_reason: StopReason | None
    stop_message: str | None

    threshold: Forwarded[float] = Forwarded("improvement.threshold")
    threshold_mode: Forwarded[ThresholdMode] = Forwarded("improvement.threshold_mode")
    mode: Forwarded[Mode] = Forwarded("improvement.mode")
    stopping_threshold: Forwarded[float | None] = Forwarded("limits.stopping_threshold")
    divergence_threshold: Forwarded[float | None] = Forwarded("limits.divergence_threshold")
    check_finite: Forwarded[bool] = Forwarded("limits.check_finite")
    min_evaluations: Forwarded[int] = Forwarded("limits.min_evaluations")
    min_delta: Forwarded[float] = Forwarded("threshold")
    min_delta_mode: Forwarded[ThresholdMode] = Forwarded("threshold_mode")
    cumulative_delta: Forwarded[bool] = Forwarded("cumulative")

    def __init__(
        self,
        patience: int,
        score_function: Callable[[Any], Any] | str,
        trainer: EngineProtocol | None = None,
        threshold: float = 0.0,
        cumulative: bool = False,
        threshold_mode: ThresholdMode = "abs",
        mode: Mode = "max",
        *,
        restore_best: bool = False,
        to_restore: Stateful | Mapping[str, Stateful] | None = None,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_finite: bool = False,
        min_evaluations: int = 0,
        state_key: str | None = None,
        min_delta: float | None = None,
        min_delta_mode: ThresholdMode | None = None,
        cumulative_delta: bool | None = None,
    ) -> None:
        if not callable(score_function) and not isinstance(score_function, str):
            raise TypeError(
                f"EarlyStopping: score_function must be a function of the engine or a metric name, got {score_function!r}"
            )
        threshold = renamed("min_delta", min_delta, "threshold", threshold, 0.0)
        threshold_mode = renamed("min_delta_mode", min_delta_mode, "threshold_mode", threshold_mode, "abs")
        self.patience = patience
        self.score_function = score_function
        self.trainer = trainer
        self.cumulative = renamed("cumulative_delta", cumulative_delta, "cumulative", cumulative, False)
        self.improvement = Improvement(threshold, threshold_mode, mode)
        self.limits = Limits(stopping_threshold, divergence_threshold, check_finite, min_evaluations)
        self._best_states = best_states(restore_best, to_restore)
        self.state_key = type(self).__name__ if state_key is None else state_key
        self.reset()
        self._was_loaded = False
        # Whether the current run has continued an earlier one and has no score yet.
        self._is_continued = False
        self._has_warned = False
        self._attachments = 0
        # The trainer whose new runs reset the handler, and whose state_dict() contains the handler's state.
        self._home: EngineReference | None = None
        self._home_handle = RemovableEventHandle()

    @property
    def patience(self) -> int:
        """Number of evaluations in a row without an improvement before the run ends."""
        return self._patience

    @patience.setter
    def patience(self, patience: int) -> None:
        self._patience = checked_patience(patience)

    @property
    def trainer(self) -> EngineProtocol | None:
        """The engine to stop; ``None`` if it was not given or no longer exists."""
        return self._trainer()

    @trainer.setter
    def trainer(self, trainer: EngineProtocol | None) -> None:
        check_engine("trainer", trainer)
        self._trainer = EngineReference(trainer)

    def attach(
        self,
        engine: EngineProtocol,
        event_name: AnyEvent = Events.COMPLETED,
        reset_engine: EngineProtocol | None = None,
        reset_event: AnyEvent = Events.STARTED,
    ) -> RemovableEventHandle:
        """Attach the handler to an engine that computes the score.

        Args:
            engine: Engine that is passed to ``score_function``, either the evaluator or the trainer itself.
            event_name: Event at which the handler reads the score.
            reset_engine: The engine that fires ``reset_event``, usually the trainer. Defaults to ``engine``.
            reset_event: Event that resets the handler. Each new run of the trainer also resets the handler. With ``STARTED``, the
                handler is reset when ``reset_engine`` starts a new run, but not when it continues one.

        Returns:
            A handle that detaches the handler from this engine and from the trainer.

        Raises:
            ValueError: If ``event_name`` is ``COMPLETED`` and ``engine`` is the ``trainer`` given to the constructor, because the
                run of the trainer is already over. Also if ``event_name`` is ``COMPLETED``, ``reset_event`` is ``STARTED`` and
                ``reset_engine`` is the same engine as ``engine``, because each run of this engine would reset the handler.
                In both cases, the handler could never stop the trainer.
            TypeError: If ``reset_engine`` is not an engine.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> trainer = FakeEngine()
            >>> evaluator = FakeEngine(parent=trainer)
            >>> handle = EarlyStopping(patience=1, score_function="loss", mode="min").attach(evaluator)
            >>> _ = evaluator.fire(Events.COMPLETED, metrics={"loss": 0.5})
            >>> _ = evaluator.fire(Events.COMPLETED, metrics={"loss": 0.6})
            >>> trainer.terminated
            True
        """
        self._check_events(engine, event_name, reset_engine, reset_event)
        # If the handler was also added with add_event_handler, it may already be bound to a trainer.
        if not self._attachments:
            self._leave()
        self._attachments += 1
        with ExitStack() as undo:
            handles = [undo.enter_context(RemovableEventHandle(partial(_detach, weakref.ref(self))))]
            self._settle(self.trainer or reset_engine or engine)
            handles.append(undo.enter_context(engine.add_event_handler(event_name, self)))
            for event in events_of(reset_event):
                if not includes(event, Events.STARTED):
                    reset = (reset_engine or engine).add_event_handler(event, self.reset)
                    handles.append(undo.enter_context(reset))
                elif reset_engine is not None and not self._is_home(reset_engine):
                    handles.append(
                        undo.enter_context(reset_engine.add_event_handler(event, self._on_started))
                    )
            undo.pop_all()
        return RemovableEventHandle.join(*handles)

    def _check_events(
        self,
        engine: EngineProtocol,
        event_name: AnyEvent,
        reset_engine: EngineProtocol | None,
        reset_event: AnyEvent,
    ) -> None:
        check_engine("reset_engine", reset_engine)
        if not includes(event_name, Events.COMPLETED):
            return
        if engine is self.trainer:
            raise ValueError(_TOO_LATE)
        if engine is reset_engine and includes(reset_event, Events.STARTED):
            raise ValueError(
                "EarlyStopping.attach: reset_engine must not be the engine that the handler is attached to, because each run of "
                "that engine would reset the handler, and the handler would never stop the trainer. Use attach(evaluator, "
                "reset_engine=trainer), or omit reset_engine"
            )

    def __call__(self, engine: EngineProtocol | None) -> None:
        """Read the score, and stop the trainer if the patience is exhausted or the score is beyond a threshold.

        Args:
            engine: The engine passed to ``score_function``; ``None`` stands for the trainer given to the constructor.

        Raises:
            ValueError: If ``score_function`` names a metric that the engine does not have.
            TypeError: If the score is not a single number, or if ``engine`` is ``None`` but no trainer was given.
        """
        if engine is None:
            engine = self.trainer
        if engine is None:
            raise TypeError(
                "EarlyStopping was called without an engine, and its constructor got no trainer; pass an engine, or trainer="
            )
        trainer = self._trainer_of(engine)
        if trainer is engine and engine.current_event == Events.COMPLETED:
            self._warn_once()
        self._settle(trainer)
        self._was_loaded = False
        if self._is_continued and self.stop_reason is not None:
            # A run that continues after an early stop gets its full patience again.
            self._reset_count()
        self._is_continued = False
        score = self._score(engine)
        self.evaluations += 1
        if self._update(score):
            self.best_epoch = trainer.state.epoch
            if self._best_states is not None:
                self._best_states.keep()
        is_exhausted = self.counter >= self.patience
        reason = self.limits.reason(score, self.mode, evaluations=self.evaluations, is_exhausted=is_exhausted)
        if reason is not None:
            self.stopped_epoch, self.stop_reason = trainer.state.epoch, reason
            self.stop_message = f"{reason.value}: {self._detail(reason, score)}"
            _log.info("epoch %d: %s; the run is terminated", self.stopped_epoch, self.stop_message)
            trainer.terminate()

    def reset(self) -> None:
        """Reset the count and the best score, as at the start of a new run."""
        self.best_score = self.best_epoch = None
        self.evaluations = 0
        if self._best_states is not None:
            self._best_states.states = None
        self._reset_count()

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, the best score, why the run was stopped, and with ``restore_best`` the best states.

        Example:
            >>> EarlyStopping(patience=3, score_function="accuracy").state_dict()["counter"]
            0
        """
        state = {
            "counter": self.counter,
            "best_score": self.best_score,
            "threshold_mode": self.threshold_mode,
            "best_epoch": self.best_epoch,
            "evaluations": self.evaluations,
            "stopped_epoch": self.stopped_epoch,
            "stop_reason": None if self.stop_reason is None else self.stop_reason.name,
            "stop_message": self.stop_message,
        }
        if self._best_states is not None:
            state["best_states"] = copied(self._best_states.states)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state for the next run.

        Args:
            state_dict: Result of :meth:`state_dict`, or of ignite's handler. If ``threshold_mode`` is missing, the handler retains
                its threshold mode.

        Raises:
            ValueError: If ``counter`` or ``best_score`` is missing, if the threshold mode or the reason is unknown, or if the best
                states belong to other objects. In that case, nothing is loaded.
        """
        if not {"counter", "best_score"} <= state_dict.keys():
            raise ValueError(
                f"EarlyStopping: the state must have the keys 'counter' and 'best_score', got {list(state_dict)}"
            )
        reason = state_dict.get("stop_reason")
        if reason is not None and reason not in StopReason.__members__:
            raise ValueError(
                f"EarlyStopping: the stop_reason of the state must be one of {list(StopReason.__members__)}, got {reason!r}"
            )
        before = self.threshold_mode
        self.threshold_mode = state_dict.get("threshold_mode", before)
        if self._best_states is not None:
            try:
                self._best_states.load(state_dict.get("best_states"))
            except ValueError:
                self.threshold_mode = before
                raise
        self.counter, self.best_score = state_dict["counter"], state_dict["best_score"]
        self.best_epoch = state_dict.get("best_epoch")
        self.evaluations = state_dict.get("evaluations", 0)
        self.stopped_epoch = state_dict.get("stopped_epoch")
        self.stop_reason = None if reason is None else StopReason[reason]
        self.stop_message = state_dict.get("stop_message")
        self._was_loaded = True
        self._is_continued = True

    def _warn_once(self) -> None:
        """Warn that the engine to stop has already completed its run."""
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(_TOO_LATE, GlowplugWarning, stacklevel=3)

    def _score(self, engine: EngineProtocol) -> float:
        if isinstance(self.score_function, str):
            metrics = engine.state.metrics
            if self.score_function not in metrics:
                raise ValueError(
                    f"EarlyStopping: the engine has no metric {self.score_function!r} at {engine.current_event}; available "
                    f"metrics: {list(metrics)}. Attach the missing metric to this engine, or change score_function"
                )
            score = metrics[self.score_function]
        else:
            score = self.score_function(engine)
        try:
            return float(score)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"EarlyStopping: the score must be a single number, but {self._score_name()} returned {score!r}"
            ) from error

    def _score_name(self) -> str:
        if isinstance(self.score_function, str):
            return f"metric {self.score_function!r}"
        return f"score_function {getattr(self.score_function, '__qualname__', self.score_function)}"

    def _update(self, score: float) -> bool:
        """Update the counter and the best score, and return whether this is a new best score."""
        best = self.best_score
        if self.improvement.is_worthless(score):
            self.counter += 1
        elif self.best_score is None or self.improvement.is_better(score, self.best_score):
            self.best_score = score
            self.counter = 0
        else:
            self.counter += 1
            if not self.cumulative:
                self.best_score = self.improvement.better(score, self.best_score)
        return self.best_score != best

    def _detail(self, reason: StopReason, score: float) -> str:
        if reason is not StopReason.PATIENCE:
            limits = {
                StopReason.STOPPING_THRESHOLD: f", and stopping_threshold is {self.stopping_threshold}",
                StopReason.DIVERGENCE: f", and divergence_threshold is {self.divergence_threshold}",
            }
            return f"{self._score_name()} returned {score:g}{limits.get(reason, '')}"
        if self.best_score is None:
            return f"no finite score in {self.counter} evaluations"
        return f"no improvement on {self.best_score:g} in the last {self.counter} evaluations"

    def _reset_count(self) -> None:
        self.counter = 0
        self.stopped_epoch = self.stop_reason = self.stop_message = None

    def _on_started(self, trainer: EngineProtocol) -> None:
        """Reset the handler at the start of a new run."""
        if self.trainer is None and trainer.parent is not None:
            # This engine is an evaluator; the runs of its trainer reset the handler.
            self._settle(trainer.parent)
        elif self._was_loaded:
            self._was_loaded = False
        elif trainer.state.run_start is RunStart.NEW:
            self.reset()
        else:
            self._is_continued = True

    def _restore(self, trainer: EngineProtocol) -> None:
        """Restore the best states at the end of a run."""
        best = self._best_states
        if best is not None and best.states is not None:
            best.restore()
            if rank() == 0 and trainer.current_event == Events.COMPLETED:
                _log.info(
                    "restored the states of epoch %d, with the best score %g",
                    self.best_epoch,
                    self.best_score,
                )

    def _trainer_of(self, engine: EngineProtocol) -> EngineProtocol:
        """Return the trainer that the handler stops when the scores of this engine no longer improve."""
        parent = engine.parent
        state: object = None if parent is None else parent.state
        # If the engine is a mock, its parent is not an engine.
        found = parent if isinstance(state, State) else None
        home = None if self._home is None else self._home()
        return self.trainer or found or home or engine

    def _is_home(self, engine: EngineProtocol) -> bool:
        return self._home is not None and self._home() is engine

    def _settle(self, trainer: EngineProtocol) -> None:
        """Register the handler's state with a trainer, and reset the handler at new runs of that trainer."""
        if self._is_home(trainer):
            return
        if self._home is not None and not self._was_loaded:
            # The previous scores belong to a run of another trainer.
            self.reset()
        self._leave()
        self._home_handle = RemovableEventHandle.join(
            trainer.register_state(self.state_key, self),
            trainer.add_event_handler(Events.STARTED, self._on_started),
            *(
                [trainer.add_event_handler(Events.TERMINATE | Events.COMPLETED, _Restore(self))]
                if self._best_states is not None
                else []
            ),
        )
        self._home = EngineReference(trainer)

    def _leave(self) -> None:
        self._home_handle.remove()
        self._home = None

    def _detach(self) -> None:
        self._attachments -= 1
        if not self._attachments:
            self._leave()


def _detach(reference: weakref.ref[EarlyStopping]) -> None:
    handler = reference()
    if handler is not None:
        handler._detach()  # noqa: SLF001 - this function is part of the class


class _Restore(Delegate):
    """Handler that restores the best states before the other handlers of its event run."""

    phase = Phase.METRICS

    def __init__(self, owner: EarlyStopping) -> None:
        self.owner = owner
        self.label = "EarlyStopping: restore best"

    def __call__(self, trainer: EngineProtocol) -> None:
        self.owner._restore(trainer)  # noqa: SLF001 - this class is part of the handler
