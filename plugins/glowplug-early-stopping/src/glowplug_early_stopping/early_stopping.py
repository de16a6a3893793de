"""The handler that stops a run when a score no longer improves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

from glowplug import Events, RemovableEventHandle, RunStart
from glowplug.distributed import broadcast, rank
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_early_stopping.improvement import Improvement, Mode, ThresholdMode, checked_threshold_mode

_log = logging.getLogger("glowplug_early_stopping")


def _checked_patience(value: object) -> int:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"EarlyStopping: patience must be an integer of at least 1, got {value!r}")
    return int(value)


class EarlyStopping:
    """Stops a trainer after ``patience`` evaluations in a row without an improvement.

    Attach the handler to the engine that computes the score, usually the evaluator. NaN, or an infinity in the wrong
    direction, is never an improvement. A new run of the trainer resets the handler; a run that continues from a loaded
    state retains the count. The state is part of the trainer's ``state_dict()``.

    Under ``torch.distributed`` each call is a collective operation; all ranks follow the score of rank 0.

    Args:
        patience: Number of evaluations without an improvement after which the run ends; at least 1.
        score_function: ``f(engine) -> number``, or the name of a metric in ``engine.state.metrics``. The number may be
            a numpy scalar or a tensor with one element.
        trainer: The engine to stop. Defaults to the engine whose handler runs the attached engine; otherwise to the
            attached engine.
        threshold: A score is an improvement if it beats the best score by more than this. Defaults to 0.
        cumulative: Whether gains below the threshold add up. With ``False``, any better score becomes the best score;
            with ``True``, only a score that beats it by more than the threshold.
        threshold_mode: ``"abs"`` for an absolute threshold, ``"rel"`` for a fraction of the best score's absolute value.
        mode: ``"max"`` if a larger score is better, ``"min"`` if a smaller one is.
        state_key: Key of the handler's state in the trainer's ``state_dict()``. Defaults to the class name.

    Attributes:
        best_score: Best score of the run, ``None`` before the first.
        counter: Number of evaluations since the last improvement.
        stopped_epoch: Epoch in which the trainer was stopped, ``None`` otherwise.
        stop_reason: Why the trainer was stopped, ``None`` otherwise.

    Raises:
        ValueError: If the patience is below 1, the threshold is negative, or a mode is unknown.
        TypeError: If ``score_function`` is neither callable nor a name, or ``trainer`` is not an engine.

    Example:
        >>> from glowplug import Engine
        >>> accuracy = iter([0.5, 0.7, 0.6, 0.7, 0.9])
        >>> trainer = Engine(lambda engine, batch: next(accuracy))
        >>> stopping = EarlyStopping(patience=2, score_function=lambda engine: engine.state.output)
        >>> handle = stopping.attach(trainer, Events.EPOCH_COMPLETED)
        >>> trainer.run([0], max_epochs=5).outcome
        <RunOutcome.TERMINATED: 'terminated'>
        >>> stopping.stopped_epoch, stopping.stop_reason
        (4, 'no improvement on 0.7 in the last 2 evaluations')
    """

    best_score: float | None
    counter: int
    stopped_epoch: int | None
    stop_reason: str | None

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
        state_key: str | None = None,
    ) -> None:
        if not callable(score_function) and not isinstance(score_function, str):
            raise TypeError(
                f"EarlyStopping: score_function must be a function of the engine or a metric name, got {score_function!r}"
            )
        if trainer is not None and not (hasattr(trainer, "terminate") and hasattr(trainer, "register_state")):
            raise TypeError(f"EarlyStopping: trainer must be a glowplug engine, got {trainer!r}")
        self.patience = _checked_patience(patience)
        self.score_function = score_function
        self.trainer = trainer
        self.cumulative = cumulative
        self.improvement = Improvement(threshold, threshold_mode, mode)
        self.state_key = type(self).__name__ if state_key is None else state_key
        self.reset()
        self._was_loaded = False
        self._attachments = 0
        # The trainer that resets this handler at new runs and stores its state.
        self._home: EngineProtocol | None = None
        self._home_handle = RemovableEventHandle()

    def attach(self, engine: EngineProtocol, event_name: AnyEvent = Events.COMPLETED) -> RemovableEventHandle:
        """Check the score at an event.

        Args:
            engine: The engine passed to ``score_function``: the evaluator, or the trainer itself.
            event_name: When the score is available.

        Returns:
            A handle that removes the handler from this engine and from the trainer.

        Raises:
            ValueError: If the engine is the trainer and the event is ``COMPLETED``, because the run is already over then.

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
        if engine is self.trainer and event_name == Events.COMPLETED:
            raise ValueError(
                "EarlyStopping cannot stop the trainer at COMPLETED, because the run is already over; attach the handler to "
                "the evaluator, or use attach(trainer, Events.EPOCH_COMPLETED)"
            )
        # A handler added with add_event_handler is already bound to a trainer, but has not registered its state there.
        if not self._attachments:
            self._leave()
        self._attachments += 1
        try:
            self._settle(self.trainer or engine)
            scoring = engine.add_event_handler(event_name, self)
        except BaseException:
            self._detach()
            raise
        return RemovableEventHandle.join(RemovableEventHandle(self._detach), scoring)

    def __call__(self, engine: EngineProtocol) -> None:
        """Read the score and stop the trainer if the patience is exhausted.

        Args:
            engine: The engine passed to ``score_function``.

        Raises:
            ValueError: If ``score_function`` names a metric that the engine does not have.
            TypeError: If the score is not a single number.
        """
        trainer = self.trainer or engine.parent or self._home or engine
        self._settle(trainer)
        self._was_loaded = False
        self._update(self._score(engine))
        # Scores may differ between ranks; rank 0 decides.
        self.best_score, self.counter = broadcast((self.best_score, self.counter))
        if self.counter >= self.patience:
            self.stopped_epoch = trainer.state.epoch
            self.stop_reason = self._reason()
            if rank() == 0:
                _log.info("epoch %d: %s; the run is terminated", self.stopped_epoch, self.stop_reason)
            trainer.terminate()

    def reset(self) -> None:
        """Reset the count and the best score, as at the start of a new run."""
        self.best_score = None
        self._reset_count()

    def state_dict(self) -> dict[str, Any]:
        """Return the counter, the best score and the threshold mode.

        Example:
            >>> EarlyStopping(patience=3, score_function="accuracy").state_dict()
            {'counter': 0, 'best_score': None, 'threshold_mode': 'abs'}
        """
        return {
            "counter": self.counter,
            "best_score": self.best_score,
            "threshold_mode": self.improvement.threshold_mode,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the counter and best score for the next run.

        Args:
            state_dict: Result of :meth:`state_dict`. Without ``threshold_mode``, the current mode is unchanged.

        Raises:
            ValueError: If a key is missing or the mode is unknown. Nothing is loaded then.
        """
        if not {"counter", "best_score"} <= state_dict.keys():
            raise ValueError(
                f"EarlyStopping: the state must have the keys 'counter' and 'best_score', got {list(state_dict)}"
            )
        mode = checked_threshold_mode(state_dict.get("threshold_mode", self.improvement.threshold_mode))
        self.improvement.threshold_mode = mode
        self._reset_count()
        self.counter, self.best_score = state_dict["counter"], state_dict["best_score"]
        self._was_loaded = True

    def _score(self, engine: EngineProtocol) -> float:
        if isinstance(self.score_function, str):
            metrics = engine.state.metrics
            if self.score_function not in metrics:
                raise ValueError(
                    f"EarlyStopping: the engine has no metric {self.score_function!r} at {engine.current_event}, only "
                    f"{list(metrics)}; attach the metric to this engine or change score_function"
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

    def _update(self, score: float) -> None:
        """Update the counter and the best score."""
        if self.improvement.is_worthless(score):
            self.counter += 1
        elif self.best_score is None or self.improvement.is_better(score, self.best_score):
            self.best_score = score
            self.counter = 0
        else:
            self.counter += 1
            if not self.cumulative:
                self.best_score = self.improvement.better(score, self.best_score)

    def _reason(self) -> str:
        if self.best_score is None:
            return f"no finite score in {self.counter} evaluations"
        return f"no improvement on {self.best_score:g} in the last {self.counter} evaluations"

    def _reset_count(self) -> None:
        self.counter = 0
        self.stopped_epoch = self.stop_reason = None

    def _on_started(self, trainer: EngineProtocol) -> None:
        """Reset the handler at the start of a new run."""
        if self.trainer is None and trainer.parent is not None:
            # This engine is an evaluator; the runs of its trainer reset the handler.
            self._settle(trainer.parent)
        elif self._was_loaded:
            self._was_loaded = False
        elif trainer.state.run_start is RunStart.NEW:
            self.reset()
        elif self.stop_reason is not None:
            # A run that continues after an early stop has its full patience again.
            self._reset_count()

    def _settle(self, trainer: EngineProtocol) -> None:
        """Bind the handler to a trainer: reset it at new runs and, if it is attached, register its state."""
        if trainer is self._home:
            return
        if self._home is not None and not self._was_loaded:
            # The previous scores belong to another trainer's run.
            self.reset()
        self._leave()
        if self._attachments:
            self._home_handle = trainer.register_state(self.state_key, self)
        started = trainer.add_event_handler(Events.STARTED, self._on_started)
        self._home_handle = RemovableEventHandle.join(self._home_handle, started)
        self._home = trainer

    def _leave(self) -> None:
        self._home_handle.remove()
        self._home = None

    def _detach(self) -> None:
        self._attachments -= 1
        if not self._attachments:
            self._leave()
