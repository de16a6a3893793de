"""The handler that stops a run whose score no longer improves."""

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
    """Stops a trainer when a score has not improved ``patience`` times in a row.

    Attach it to the engine that computes the score, usually the evaluator. A score that is NaN, or infinite in the
    wrong direction, is never an improvement. A new run of the trainer resets the count; a run that continues from a
    loaded state keeps it. The state is part of the trainer's ``state_dict()``.

    Under ``torch.distributed`` each call is a collective; all ranks follow the score of rank 0.

    Args:
        patience: after how many scores in a row without an improvement the run ends; at least 1.
        score_function: ``f(engine) -> number``, or the name of a metric in ``engine.state.metrics``. The number may be
            a numpy scalar or a tensor with one element.
        trainer: the engine to stop. Default: the engine in whose run the attached one runs, or else the attached one.
        threshold: by how much a score must be better than the best one; equal is not better.
        cumulative: ``False``: the best score follows each better one, so that slow gains below the threshold do not add
            up. ``True``: it moves with improvements only, so that they do.
        threshold_mode: ``"abs"``: the threshold itself; ``"rel"``: that share of the best score's size.
        mode: ``"max"`` where a larger score is better, ``"min"`` for a smaller one.
        state_key: Key of this handler's state in the trainer's ``state_dict()``. Defaults to the class name.

    Attributes:
        best_score: the best score so far, ``None`` before the first.
        counter: how many scores in a row were no improvement.
        stopped_epoch: the trainer's epoch in which it was stopped, ``None`` if it was not.
        stop_reason: a sentence on that, ``None`` if it was not.

    Raises:
        ValueError: a patience below 1, a negative threshold, or an unknown mode.
        TypeError: a ``score_function`` that is neither callable nor a name, or a ``trainer`` that is no engine.

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
                "EarlyStopping: score_function must be a function of the engine, or the name of a metric; got "
                f"{score_function!r}"
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
        # The engine whose new runs reset the count and whose state includes this handler's.
        self._home: EngineProtocol | None = None
        self._home_handle = RemovableEventHandle()

    def attach(self, engine: EngineProtocol, event_name: AnyEvent = Events.COMPLETED) -> RemovableEventHandle:
        """Check the score whenever an event fires.

        Args:
            engine: The engine passed to ``score_function``: the evaluator, or the trainer itself.
            event_name: When the score is available.

        Returns:
            A handle that removes everything that was added, including on the trainer.

        Raises:
            ValueError: The event fires when the trainer's run is already over.

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
                "EarlyStopping: the trainer's run is over at its COMPLETED and cannot be stopped; "
                "attach it to the evaluator, or use attach(trainer, Events.EPOCH_COMPLETED)"
            )
        # A handler that was registered with add_event_handler listens already, but has not registered its state.
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
        """Take the engine's score and stop the trainer if it has not improved for too long.

        Args:
            engine: the engine that ``score_function`` gets.

        Raises:
            ValueError: there is no metric of that name.
            TypeError: the score is no single number.
        """
        trainer = self.trainer or engine.parent or self._home or engine
        self._settle(trainer)
        self._was_loaded = False
        self._take(self._score(engine))
        # The score may differ between ranks: all of them follow rank 0.
        self.best_score, self.counter = broadcast((self.best_score, self.counter))
        if self.counter >= self.patience:
            self.stopped_epoch = trainer.state.epoch
            self.stop_reason = self._reason()
            if rank() == 0:
                _log.info("epoch %d: %s; the run is terminated", self.stopped_epoch, self.stop_reason)
            trainer.terminate()

    def reset(self) -> None:
        """Forget all scores, as a new run of the trainer does."""
        self.best_score = None
        self._begin_count()

    def state_dict(self) -> dict[str, Any]:
        """Return the counter, best score and threshold mode.

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
        """Take what :meth:`state_dict` returned; the next run continues with it.

        Args:
            state_dict: ``counter``, ``best_score``, and perhaps ``threshold_mode``, which then replaces the present one.

        Raises:
            ValueError: a key is missing, or the mode is unknown. Nothing has been loaded then.
        """
        missing = [key for key in ("counter", "best_score") if key not in state_dict]
        if missing:
            raise ValueError(
                f"the state of an EarlyStopping must have {' and '.join(missing)}; got the keys {list(state_dict)}"
            )
        mode = checked_threshold_mode(state_dict.get("threshold_mode", self.improvement.threshold_mode))
        self.improvement.threshold_mode = mode
        self._begin_count()
        self.counter, self.best_score = state_dict["counter"], state_dict["best_score"]
        self._was_loaded = True

    def _score(self, engine: EngineProtocol) -> float:
        if isinstance(self.score_function, str):
            metrics = engine.state.metrics
            if self.score_function not in metrics:
                raise ValueError(
                    f"EarlyStopping: the engine has no metric {self.score_function!r} at {engine.current_event}; "
                    f"there {'is' if len(metrics) == 1 else 'are'} {', '.join(map(repr, metrics)) or 'none at all'}. "
                    "Attach the metric to this engine, or give another name as score_function"
                )
            score = metrics[self.score_function]
        else:
            score = self.score_function(engine)
        try:
            return float(score)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"EarlyStopping: a score is a single number, but {self._score_name()} gave {score!r}"
            ) from error

    def _score_name(self) -> str:
        if isinstance(self.score_function, str):
            return f"the metric {self.score_function!r}"
        return f"score_function {getattr(self.score_function, '__qualname__', self.score_function)}"

    def _take(self, score: float) -> None:
        """Count a score, or make it the best one."""
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
            return f"no score that is a number in {self.counter} evaluations"
        return f"no improvement on {self.best_score:g} in the last {self.counter} evaluations"

    def _begin_count(self) -> None:
        self.counter = 0
        self.stopped_epoch = self.stop_reason = None

    def _on_started(self, trainer: EngineProtocol) -> None:
        """Reset for a new run; keep the count for one that continues or was loaded."""
        if self._was_loaded:
            self._was_loaded = False
        elif trainer.state.run_start is RunStart.NEW:
            self.reset()
        elif self.stop_reason is not None:
            # A run that was stopped and continues gets its full patience again.
            self._begin_count()

    def _settle(self, trainer: EngineProtocol) -> None:
        """Listen for new runs of a trainer, and register the state there if attached."""
        if trainer is self._home:
            return
        if self._home is not None and not self._was_loaded:
            # The scores so far are from another trainer's run.
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
