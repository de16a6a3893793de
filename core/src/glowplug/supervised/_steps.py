"""Training and evaluation steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from glowplug.metrics import identity
from glowplug.supervised._accumulation import GradientAccumulation
from glowplug.supervised._batch import prepare_pair
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
    scaler: torch.amp.GradScaler | None = None,
) -> Step:
    """Return a step function for ``Engine(step)`` that trains a model.

    The step runs the forward pass, the backward pass and the optimizer. With ``gradient_accumulation_steps=n``, the optimizer
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
        non_blocking: Whether to copy batches from pinned memory asynchronously, as in :func:`convert_tensor`.
        prepare_batch: Function that converts a batch; ``prepare_batch(batch, device=..., non_blocking=...)`` returns ``(x, y)``.
        model_transform: Function that converts the model's output to the prediction for ``loss_fn``.
        output_transform: Function that returns the value of ``state.output``, called as
            ``output_transform(x, y, y_pred, loss)``. By default, ``state.output`` is the detached loss. The loss stays on its
            device, so that no step waits for an accelerator.
        gradient_accumulation_steps: Number of iterations per optimizer step; see above.
        model_fn: Function that calls the model. By default, ``model_fn(model, x)`` returns ``model(x)``.
        amp_mode: ``"amp"`` runs the model and the loss function under ``torch.autocast`` for the device. ``None`` (the default)
            does not use autocast.
        scaler: A ``torch.amp.GradScaler`` that scales the loss and unscales the gradients; requires ``amp_mode="amp"``.

    Raises:
        ValueError: If ``amp_mode`` is unknown or not supported by the device, if ``scaler`` is given without ``amp_mode``, or
            if ``gradient_accumulation_steps`` is below 1.
        TypeError: If ``gradient_accumulation_steps`` is not an integer.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> from glowplug import Engine
        >>> trainer = Engine(supervised_training_step(model, optimizer, torch.nn.functional.mse_loss))
        >>> trainer.run([(torch.zeros(4, 2), torch.ones(4, 1))]).output.shape
        torch.Size([])
    """
    check_count("gradient_accumulation_steps", gradient_accumulation_steps)
    if scaler is not None and amp_mode is None:
        raise ValueError("scaler needs amp_mode='amp', got amp_mode=None; set amp_mode='amp', or omit scaler")
    autocast = _autocast(amp_mode, device, model)
    window = gradient_accumulation_steps
    gradients = GradientAccumulation(optimizer)
    # A disabled scaler returns the loss unchanged, and its step() only calls optimizer.step().
    used = torch.amp.GradScaler(enabled=False) if scaler is None else scaler

    def step(engine: EngineProtocol, batch: Any) -> Any:
        iteration = engine.state.iteration
        if window > 1:
            gradients.join(engine)
        if (iteration - 1) % window == 0:
            optimizer.zero_grad()
        model.train()
        x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
        with autocast():
            y_pred = model_transform(model_fn(model, x))
            loss = loss_fn(y_pred, y)
        share = loss if window == 1 else loss / window
        used.scale(share).backward()  # type: ignore[no-untyped-call]
        if iteration % window == 0:
            used.step(optimizer)
            used.update()
        gradients.is_open = iteration % window != 0
        return output_transform(x, y, y_pred, loss)

    return step


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
) -> Step:
    """Return a step function for ``Engine(step)`` that evaluates a model without computing gradients.

    The step sets the model to evaluation mode. The model stays in evaluation mode until a training step changes the mode.

    Args:
        model: The model; each step sets it to evaluation mode.
        device: The device to move batches to; ``None`` leaves each batch where it is.
        non_blocking: Whether to copy batches from pinned memory asynchronously, as in :func:`convert_tensor`.
        prepare_batch: Function that converts a batch; ``prepare_batch(batch, device=..., non_blocking=...)`` returns ``(x, y)``.
        model_transform: Function that converts the model's output to the prediction.
        output_transform: Function that returns the value of ``state.output``, called as ``output_transform(x, y, y_pred)``. By
            default, ``state.output`` is ``(y_pred, y)``, which is the form that metrics expect.
        model_fn: Function that calls the model. By default, ``model_fn(model, x)`` returns ``model(x)``.
        amp_mode: ``"amp"`` runs the model under ``torch.autocast`` for the device. ``None`` (the default) does not use autocast.

    Raises:
        ValueError: If ``amp_mode`` is unknown or not supported by the device.

    Example:
        >>> from glowplug import Engine
        >>> evaluator = Engine(supervised_evaluation_step(torch.nn.Linear(2, 1)))
        >>> y_pred, y = evaluator.run([(torch.zeros(4, 2), torch.ones(4, 1))]).output
        >>> y_pred.requires_grad
        False
    """
    autocast = _autocast(amp_mode, device, model)

    def step(_engine: EngineProtocol, batch: Any) -> Any:
        model.eval()
        with torch.no_grad():
            x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
            with autocast():
                y_pred = model_transform(model_fn(model, x))
            return output_transform(x, y, y_pred)

    return step


def check_integer(name: str, value: object) -> None:
    """Raise a ``TypeError`` if the value is not an integer."""
    if not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")


def check_count(name: str, value: int) -> None:
    """Raise an error if the value is not an integer of at least 1."""
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")


def device_in_use(device: Device, model: torch.nn.Module) -> torch.device:
    """Return the given device, or the device of the model if ``device`` is ``None``."""
    if device is not None:
        return torch.device(device)
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _autocast(
    amp_mode: str | None, device: Device, model: torch.nn.Module
) -> Callable[[], AbstractContextManager[Any]]:
    """Return a function that creates the autocast context of one step."""
    if amp_mode is None:
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
    return lambda: torch.autocast(kind)
