"""Training and evaluation steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from glowplug.handles import RemovableEventHandle
from glowplug.metrics import identity
from glowplug.supervised._batch import prepare_pair
from glowplug.supervised._optimizer_step import OptimizerStep, Scheduler
from glowplug.typing import EngineProtocol

if TYPE_CHECKING:
    from glowplug.utils import Device

Step: TypeAlias = Callable[[EngineProtocol, Any], Any]


def call_model(model: torch.nn.Module, x: Any) -> Any:
    return model(x)


def detached_loss(_x: Any, _y: Any, _y_pred: Any, loss: torch.Tensor) -> torch.Tensor:
    return loss.detach()


def prediction_and_target(_x: Any, y: Any, y_pred: Any) -> tuple[Any, Any]:
    return y_pred, y


class TrainingStep:
    """A training step with its :class:`OptimizerStep`."""

    def __init__(self, step: Step, update: OptimizerStep) -> None:
        self._step = step
        self._update = update

    def attach(self, engine: EngineProtocol) -> RemovableEventHandle:
        """Attach the optimizer step to an engine; ``Engine(step)`` does this."""
        return self._update.attach(engine)

    def __call__(self, engine: EngineProtocol, batch: Any) -> Any:
        """Train on one batch, and return the output."""
        return self._step(engine, batch)


def supervised_training_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
    model_transform: Callable[[Any], Any] = identity,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = detached_loss,
    gradient_accumulation_steps: int = 1,
    model_fn: Callable[[torch.nn.Module, Any], Any] = call_model,
    *,
    amp_mode: Literal["amp"] | None = None,
    amp_dtype: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    lr_scheduler: Scheduler | None = None,
    lr_scheduler_interval: Literal["step", "epoch"] = "step",
    keep_eval: Sequence[torch.nn.Module] = (),
) -> TrainingStep:
    """Return a step function for ``Engine(step)`` that trains a model.

    The step runs the forward pass, the backward pass and the optimizer, and fires the :class:`OptimizerEvents`. With ``gradient_accumulation_steps=n``, the optimizer
    steps once for every n iterations of the run, using the average of the n gradients. The n iterations may cross an epoch
    boundary. If the run ends before the n iterations are complete, the optimizer does not step, and the gradients stay in the
    parameters. If you then continue the run, the optimizer steps as soon as the n iterations are complete. If you start a new
    run instead of continuing the previous one, the gradients are cleared. Within a window, the engine's state contains the
    gradients, so that a resumed run continues exactly.

    Args:
        model: The model; each step sets it to training mode. Move the model to its device before you create the optimizer.
        optimizer: The optimizer.
        loss_fn: Loss function; ``loss_fn(y_pred, y)`` returns a scalar tensor.
        device: The device to move batches to; ``None`` leaves each batch where it is.
        non_blocking: Whether to copy batches from pinned memory asynchronously, as in :func:`~glowplug.utils.convert_tensor`.
        prepare_batch: Function that converts a batch; ``prepare_batch(batch, device=..., non_blocking=...)`` returns ``(x, y)``.
        model_transform: Function that converts the model's output to the prediction for ``loss_fn``.
        output_transform: Function that returns the value of ``state.output``, called as
            ``output_transform(x, y, y_pred, loss)``. By default, ``state.output`` is the detached loss. The loss stays on its
            device, so that no step waits for an accelerator.
        gradient_accumulation_steps: Number of iterations per optimizer step; see above.
        model_fn: Function that calls the model. By default, ``model_fn(model, x)`` returns ``model(x)``.
        amp_mode: ``"amp"`` runs the model and the loss function under ``torch.autocast`` for the device. ``None`` (the default)
            does not use autocast.
        amp_dtype: The dtype of ``torch.autocast``, such as ``torch.bfloat16``. ``None`` uses the default of the device.
        scaler: A ``torch.amp.GradScaler`` that scales the loss and unscales the gradients; requires ``amp_mode="amp"``.
        clip_norm: Greatest norm of all gradients together; see :class:`OptimizerStep`.
        clip_value: Greatest absolute value of each element of a gradient.
        lr_scheduler: A scheduler to step.
        lr_scheduler_interval: ``"step"`` steps the scheduler after each optimizer step, ``"epoch"`` at the end of each epoch.
        keep_eval: Parts of the model that stay in evaluation mode, such as a frozen backbone with batch normalization.

    Returns:
        The step.

    Raises:
        ValueError: If ``amp_mode`` is unknown or not supported by the device, if ``scaler`` or ``amp_dtype`` is given without
            ``amp_mode``, if a number is not positive, if ``keep_eval`` contains a module that is not part of the model, or for
            the reasons of :class:`OptimizerStep`.
        TypeError: If ``gradient_accumulation_steps`` is not an integer, or if ``lr_scheduler.step`` requires arguments.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> from glowplug import Engine
        >>> trainer = Engine(
        ...     supervised_training_step(model, optimizer, torch.nn.functional.mse_loss, clip_norm=1.0)
        ... )
        >>> trainer.run([(torch.zeros(4, 2), torch.ones(4, 1))]).output.shape
        torch.Size([])
    """
    if scaler is not None and amp_mode is None:
        raise ValueError("scaler needs amp_mode='amp', got amp_mode=None; set amp_mode='amp', or omit scaler")
    autocast = _autocast(amp_mode, amp_dtype, device, model)
    set_mode = _training_mode(model, keep_eval)
    update = OptimizerStep(
        optimizer,
        scaler=scaler,
        accumulation_steps=gradient_accumulation_steps,
        clip_norm=clip_norm,
        clip_value=clip_value,
        lr_scheduler=lr_scheduler,
        lr_scheduler_interval=lr_scheduler_interval,
    )

    def step(engine: EngineProtocol, batch: Any) -> Any:
        set_mode()
        x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
        predictions = []

        def compute_loss() -> torch.Tensor:
            with autocast():
                predictions.append(model_transform(model_fn(model, x)))
                return loss_fn(predictions[-1], y)

        loss = update(engine, compute_loss)
        return output_transform(x, y, predictions[0], loss)

    return TrainingStep(step, update)


def supervised_evaluation_step(
    model: torch.nn.Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
    model_transform: Callable[[Any], Any] = identity,
    output_transform: Callable[[Any, Any, Any], Any] = prediction_and_target,
    model_fn: Callable[[torch.nn.Module, Any], Any] = call_model,
    *,
    amp_mode: Literal["amp"] | None = None,
    amp_dtype: torch.dtype | None = None,
) -> Step:
    """Return a step function for ``Engine(step)`` that evaluates a model without computing gradients.

    The step sets the model to evaluation mode. The model stays in evaluation mode until a training step changes the mode.

    Args:
        model: The model; each step sets it to evaluation mode.
        device: The device to move batches to; ``None`` leaves each batch where it is.
        non_blocking: Whether to copy batches from pinned memory asynchronously, as in :func:`~glowplug.utils.convert_tensor`.
        prepare_batch: Function that converts a batch; ``prepare_batch(batch, device=..., non_blocking=...)`` returns ``(x, y)``.
        model_transform: Function that converts the model's output to the prediction.
        output_transform: Function that returns the value of ``state.output``, called as ``output_transform(x, y, y_pred)``. By
            default, ``state.output`` is ``(y_pred, y)``, which is the form that metrics expect.
        model_fn: Function that calls the model. By default, ``model_fn(model, x)`` returns ``model(x)``.
        amp_mode: ``"amp"`` runs the model under ``torch.autocast`` for the device. ``None`` (the default) does not use autocast.
        amp_dtype: The dtype of ``torch.autocast``; ``None`` uses the default of the device.

    Raises:
        ValueError: If ``amp_mode`` is unknown or not supported by the device, or if ``amp_dtype`` is given without ``amp_mode``.

    Example:
        >>> from glowplug import Engine
        >>> evaluator = Engine(supervised_evaluation_step(torch.nn.Linear(2, 1)))
        >>> y_pred, y = evaluator.run([(torch.zeros(4, 2), torch.ones(4, 1))]).output
        >>> y_pred.requires_grad
        False
    """
    autocast = _autocast(amp_mode, amp_dtype, device, model)

    def step(_engine: EngineProtocol, batch: Any) -> Any:
        model.eval()
        with torch.no_grad():
            x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
            with autocast():
                y_pred = model_transform(model_fn(model, x))
            return output_transform(x, y, y_pred)

    return step


def device_in_use(device: Device, model: torch.nn.Module) -> torch.device:
    """Return the given device, or the device of the model if ``device`` is ``None``."""
    if device is not None:
        return torch.device(device)
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _autocast(
    amp_mode: str | None, amp_dtype: torch.dtype | None, device: Device, model: torch.nn.Module
) -> Callable[[], AbstractContextManager[Any]]:
    """Return a function that creates the autocast context of one step."""
    if amp_mode is None:
        if amp_dtype is not None:
            raise ValueError(
                f"amp_dtype={amp_dtype} needs amp_mode='amp', got amp_mode=None; set amp_mode='amp', or omit amp_dtype"
            )
        return nullcontext
    if amp_mode != "amp":
        raise ValueError(
            f"amp_mode must be 'amp' (torch.autocast) or None, got {amp_mode!r}; write your own step for other modes"
        )
    kind = device_in_use(device, model).type
    if kind in {"mps", "xla"} or not torch.amp.is_autocast_available(kind):
        raise ValueError(
            f"amp_mode='amp' does not support the device type {kind!r}; omit amp_mode, or use torch.autocast in model_fn"
        )
    if not (amp_dtype is None or isinstance(amp_dtype, torch.dtype)):
        raise ValueError(
            f"amp_dtype must be a torch.dtype such as torch.bfloat16, or None; got {amp_dtype!r}"
        )
    return lambda: torch.autocast(kind, dtype=amp_dtype)


def _training_mode(model: torch.nn.Module, keep_eval: Sequence[torch.nn.Module]) -> Callable[[], None]:
    """Return a function that sets a model to training mode, except for some of its parts."""
    kept = [keep_eval] if isinstance(keep_eval, torch.nn.Module) else list(keep_eval)
    parts = set(map(id, model.modules()))
    for part in kept:
        if id(part) not in parts:
            raise ValueError(
                f"keep_eval must contain modules of the model, such as model.backbone; this one is not part of the model: {part!r}"
            )

    def set_mode() -> None:
        model.train()
        for part in kept:
            part.eval()

    return set_mode
