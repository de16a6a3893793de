"""Optimizer steps: backward pass, gradient accumulation, clipping, gradient scaler and learning rate scheduler."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, Protocol

import torch

from glowplug.events import EventEnum, Events
from glowplug.handles import RemovableEventHandle
from glowplug.stash import StashKey
from glowplug.state import RunStart
from glowplug.supervised._accumulation import GradientAccumulation
from glowplug.supervised._checks import check_choice, check_count, check_positive
from glowplug.typing import EngineProtocol, Stateful

__all__ = ["OptimizerEvents", "OptimizerStep"]


class OptimizerEvents(EventEnum):
    """Events within a training step.

    ``state.optimizer_step`` is the number of the current optimizer step, counted from 1 over the whole run.

    Example:
        >>> import torch
        >>> from glowplug import create_supervised_trainer
        >>> model = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(
        ...     model, optimizer, torch.nn.functional.mse_loss, gradient_accumulation_steps=2
        ... )
        >>> @trainer.on(OptimizerEvents.OPTIMIZER_STEP_COMPLETED)
        ... def show(engine):
        ...     print(f"optimizer step {engine.state.optimizer_step} at iteration {engine.state.iteration}")
        >>> state = trainer.run([(torch.ones(4, 1), torch.zeros(4, 1))] * 4)
        optimizer step 1 at iteration 2
        optimizer step 2 at iteration 4
    """

    BACKWARD_COMPLETED = "backward_completed"
    """Fires after each backward pass, and therefore at each iteration."""
    OPTIMIZER_STEP_STARTED = "optimizer_step_started"
    """Fires before each optimizer step, when the gradients are complete and unscaled, but not yet clipped."""
    OPTIMIZER_STEP_COMPLETED = "optimizer_step_completed"
    """Fires after each optimizer step, but not if the gradient scaler has skipped the step."""


_COUNTERS = {
    OptimizerEvents.BACKWARD_COMPLETED: "iteration",
    OptimizerEvents.OPTIMIZER_STEP_STARTED: "optimizer_step",
    OptimizerEvents.OPTIMIZER_STEP_COMPLETED: "optimizer_step",
}


class Scheduler(Stateful, Protocol):
    """A scheduler whose ``step`` needs no arguments, such as those of ``torch.optim.lr_scheduler``."""

    def step(self) -> Any:
        """Change the learning rate."""


class OptimizerStep:
    """Compute the gradients of a loss and step the optimizer, which is the part of a training step that all models share.

    Each call computes the loss and its gradients. At the end of each accumulation window it also unscales and clips the
    gradients, steps the optimizer and then the scheduler. It fires the :class:`OptimizerEvents`. The engine's state contains the
    state of the scheduler and of the scaler, the number of optimizer steps, and the gradients of an incomplete window.

    If ``optimizer.step`` requires a closure, as that of ``torch.optim.LBFGS`` does, the loss is computed several times per call.
    Then ``OPTIMIZER_STEP_STARTED`` fires before the gradients are computed.

    Args:
        optimizer: The optimizer.
        scaler: A gradient scaler for mixed precision.
        accumulation_steps: Number of iterations per optimizer step, which uses the average of their gradients.
        clip_norm: Greatest norm of all gradients together (Pascanu et al., 2013); larger gradients are scaled down.
        clip_value: Greatest absolute value of each element of a gradient; it is applied after ``clip_norm``.
        lr_scheduler: A scheduler to step.
        lr_scheduler_interval: ``"step"`` steps the scheduler after each optimizer step, ``"epoch"`` at the end of each epoch.

    Raises:
        TypeError: If ``accumulation_steps`` is not an integer, or if ``lr_scheduler.step`` requires arguments.
        ValueError: If a number is not positive, if the interval is unknown, or if an optimizer that requires a closure is combined
            with a scaler or an accumulation window.

    Example:
        >>> from glowplug import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> update = OptimizerStep(torch.optim.SGD(model.parameters(), lr=0.1), clip_norm=1.0)
        >>> def step(engine, batch):
        ...     return update(engine, lambda: model(batch).square().mean())
        >>> trainer = Engine(step)
        >>> handle = update.attach(trainer)
        >>> @trainer.on(OptimizerEvents.OPTIMIZER_STEP_COMPLETED)
        ... def show(engine):
        ...     print(engine.state.optimizer_step)
        >>> state = trainer.run([torch.ones(4, 2)], max_epochs=2)
        1
        2
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        scaler: torch.amp.GradScaler | None = None,
        accumulation_steps: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        lr_scheduler: Scheduler | None = None,
        lr_scheduler_interval: Literal["step", "epoch"] = "step",
    ) -> None:
        check_count("gradient_accumulation_steps", accumulation_steps)
        check_positive("clip_norm", clip_norm)
        check_positive("clip_value", clip_value)
        check_choice("lr_scheduler_interval", lr_scheduler_interval, ("step", "epoch"))
        _check_scheduler(lr_scheduler)
        self._needs_closure = _needs_closure(optimizer)
        if self._needs_closure and (accumulation_steps > 1 or scaler is not None):
            raise ValueError(
                f"{type(optimizer).__name__}.step requires a closure, which cannot be combined with a gradient scaler or with "
                f"gradient_accumulation_steps={accumulation_steps}; omit them, or use another optimizer"
            )
        self.optimizer = optimizer
        # The number of optimizer steps in this run.
        self.count = 0
        self._window = accumulation_steps
        self._clip_norm, self._clip_value = clip_norm, clip_value
        self._scheduler, self._interval = lr_scheduler, lr_scheduler_interval
        self._scaler = scaler
        # A disabled scaler returns the loss unchanged, and its step() only calls optimizer.step().
        self._used_scaler = torch.amp.GradScaler(enabled=False) if scaler is None else scaler
        self._gradients = GradientAccumulation(optimizer)
        self._key = StashKey[RemovableEventHandle]()
        self._has_stepped = True
        if scaler is not None:
            # The scaler skips steps with infinite gradients, and does not say so.
            optimizer.register_step_post_hook(self._note_step)

    def attach(self, engine: EngineProtocol) -> RemovableEventHandle:
        """Register the events on an engine, and add the states to the engine's state.

        The first call of this object does this too, but then handlers of the events cannot be added before the first iteration.
        """
        attached = engine.stash.get(self._key)
        if attached is not None:
            return attached
        engine.register_events(*OptimizerEvents, event_to_attr=_COUNTERS)
        handles = [
            engine.add_event_handler(Events.STARTED, self.started),
            engine.register_state("OptimizerStep", self),
            *(engine.register_state(key, each) for key, each in self._states()),
        ]
        if self._scheduler is not None and self._interval == "epoch":
            handles.append(engine.add_event_handler(Events.EPOCH_COMPLETED, self.step_scheduler))
        handle = RemovableEventHandle.join(
            RemovableEventHandle(partial(engine.stash.__delitem__, self._key)), *handles
        )
        engine.stash[self._key] = handle
        return handle

    def __call__(self, engine: EngineProtocol, compute_loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Compute the loss and its gradients, and step the optimizer at the end of an accumulation window.

        Args:
            engine: The engine that calls the step.
            compute_loss: Function that returns the loss, a scalar tensor.

        Returns:
            The loss; if it was computed several times, the first one.
        """
        if self._key not in engine.stash:
            self.attach(engine)
        if self._needs_closure:
            return self._step_with_closure(engine, compute_loss)
        position = (engine.state.iteration - 1) % self._window
        if position == 0:
            self.optimizer.zero_grad()
        loss = compute_loss()
        self._backward(engine, loss)
        if position == self._window - 1:
            self._step(engine)
        self._gradients.is_open = position < self._window - 1
        return loss

    def started(self, engine: EngineProtocol) -> None:
        """Count from 0 if the run is new; called when a run starts."""
        if engine.state.run_start is RunStart.NEW:
            self.count = 0
        engine.state.optimizer_step = self.count

    def step_scheduler(self) -> None:
        """Step the scheduler; called at the end of each epoch if its interval is ``"epoch"``."""
        if self._scheduler is None:
            return
        with warnings.catch_warnings():
            # The optimizer may not have stepped yet in this process, if the run was resumed shortly before the end of the epoch.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of optimizer steps."""
        return {"optimizer_step": self.count}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the number of optimizer steps."""
        self.count = state_dict["optimizer_step"]

    def _states(self) -> Iterator[tuple[str, Any]]:
        if self._window > 1:
            yield "GradientAccumulation", self._gradients
        if self._scaler is not None:
            yield "GradScaler", self._scaler
        if self._scheduler is not None:
            yield "LRScheduler", self._scheduler

    def _backward(self, engine: EngineProtocol, loss: torch.Tensor) -> None:
        share = loss if self._window == 1 else loss / self._window
        self._used_scaler.scale(share).backward()  # type: ignore[no-untyped-call]
        engine.fire_event(OptimizerEvents.BACKWARD_COMPLETED)

    def _step(self, engine: EngineProtocol) -> None:
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
            self._has_stepped = False
        try:
            self._announce(engine)
            self._clip()
            self._used_scaler.step(self.optimizer)
        finally:
            # Also after an exception in a handler, because a scaler unscales gradients only once before an update.
            self._used_scaler.update()
        self._conclude(engine)

    def _step_with_closure(
        self, engine: EngineProtocol, compute_loss: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        losses: list[torch.Tensor] = []

        # torch declares that the closure returns a float, and documents that it returns the loss.
        def closure() -> Any:
            self.optimizer.zero_grad()
            losses.append(compute_loss())
            self._backward(engine, losses[-1])
            self._clip()
            return losses[-1]

        self._announce(engine)
        self.optimizer.step(closure)
        self._conclude(engine)
        return losses[0]

    def _announce(self, engine: EngineProtocol) -> None:
        engine.state.optimizer_step = self.count + 1
        engine.fire_event(OptimizerEvents.OPTIMIZER_STEP_STARTED)

    def _conclude(self, engine: EngineProtocol) -> None:
        if not self._has_stepped:
            engine.state.optimizer_step = self.count
            return
        self.count += 1
        engine.fire_event(OptimizerEvents.OPTIMIZER_STEP_COMPLETED)
        if self._scheduler is not None and self._interval == "step":
            self._scheduler.step()

    def _clip(self) -> None:
        if self._clip_norm is None and self._clip_value is None:
            return
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self._clip_norm)
        if self._clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self._clip_value)

    def _note_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        # A scaler also calls step() of a fused optimizer if gradients are infinite; the kernel reads this tensor and skips the update.
        found_inf = getattr(optimizer, "found_inf", None)
        self._has_stepped = found_inf is None or not found_inf.item()


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _check_scheduler(scheduler: object) -> None:
    if scheduler is None:
        return
    step = getattr(scheduler, "step", None)
    if not callable(step):
        raise TypeError(
            f"lr_scheduler must have a method step(), as in torch.optim.lr_scheduler; got {scheduler!r}"
        )
    required = [
        parameter.name
        for parameter in inspect.signature(step).parameters.values()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    if required:
        raise TypeError(
            f"{type(scheduler).__name__}.step requires {', '.join(required)}, which lr_scheduler cannot pass; call it in a "
            "handler of your evaluator instead"
        )
