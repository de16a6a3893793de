"""Engines for supervised training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import torch

from glowplug.engine import Engine
from glowplug.events import Events
from glowplug.metrics import Metric, identity, without_padding
from glowplug.supervised._batch import prepare_pair
from glowplug.supervised._optimizer_step import Scheduler
from glowplug.supervised._steps import (
    call_model,
    detached_loss,
    device_in_use,
    prediction_and_target,
    supervised_evaluation_step,
    supervised_training_step,
)

if TYPE_CHECKING:
    from glowplug.utils import Device


def create_supervised_trainer(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
    model_transform: Callable[[Any], Any] = identity,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = detached_loss,
    deterministic: bool = False,
    amp_mode: Literal["amp"] | None = None,
    scaler: bool | torch.amp.GradScaler = False,
    gradient_accumulation_steps: int = 1,
    model_fn: Callable[[torch.nn.Module, Any], Any] = call_model,
    *,
    amp_dtype: torch.dtype | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    lr_scheduler: Scheduler | None = None,
    lr_scheduler_interval: Literal["step", "epoch"] = "step",
    keep_eval: Sequence[torch.nn.Module] = (),
) -> Engine:
    """Return an engine that trains a model, and that fires the :class:`OptimizerEvents`.

    Args:
        model: The model; see :func:`supervised_training_step`.
        optimizer: The optimizer.
        loss_fn: Loss function; ``loss_fn(y_pred, y)`` returns a scalar tensor.
        device: The device to move batches to; the model is not moved.
        non_blocking: Whether to copy batches from pinned memory asynchronously, as in :func:`~glowplug.utils.convert_tensor`.
        prepare_batch: Function that converts a batch; ``prepare_batch(batch, device=..., non_blocking=...)`` returns ``(x, y)``.
            By default, each batch must already be a pair ``(x, y)``. If your batches are mappings, pass the result of
            :func:`prepare_batch_from_keys`.
        model_transform: Function that converts the model's output to the prediction for ``loss_fn``.
        output_transform: Function that returns the value of ``state.output``, called as
            ``output_transform(x, y, y_pred, loss)``. By default, ``state.output`` is the detached loss.
        deterministic: Whether to call ``torch.use_deterministic_algorithms(True, warn_only=True)`` and disable
            ``torch.backends.cudnn.benchmark`` when a run starts. The previous settings are restored when the run ends, but not
            when the run is interrupted. To seed the random number generators as well, call ``torch.manual_seed``.
        amp_mode: ``"amp"`` runs the model and the loss function under ``torch.autocast`` for the device. ``None`` (the default)
            does not use autocast.
        scaler: A ``torch.amp.GradScaler``, or ``True`` to create one and store it in ``state.scaler``. ``False`` (the default)
            uses no scaler. The scaler's state is part of the trainer's ``state_dict()``.
        gradient_accumulation_steps: Number of iterations per optimizer step, counted over the whole run. If the number of
            iterations in a run is not a multiple of this value, the optimizer does not step for the remaining iterations.
        model_fn: Function that calls the model. By default, ``model_fn(model, x)`` returns ``model(x)``.
        amp_dtype: The dtype of ``torch.autocast``, such as ``torch.bfloat16``. ``None`` uses the default of the device.
        clip_norm: Greatest norm of all gradients together; larger gradients are scaled down.
        clip_value: Greatest absolute value of each element of a gradient.
        lr_scheduler: A scheduler to step, such as one of ``torch.optim.lr_scheduler``. Its state is part of the trainer's
            ``state_dict()``.
        lr_scheduler_interval: ``"step"`` steps the scheduler after each optimizer step, ``"epoch"`` at the end of each epoch.
        keep_eval: Parts of the model that stay in evaluation mode, such as a frozen backbone with batch normalization.

    Raises:
        TypeError: If ``gradient_accumulation_steps`` is not an integer, or if ``lr_scheduler.step`` requires arguments.
        ValueError: If ``amp_mode`` is unknown or not supported by the device, if ``scaler`` or ``amp_dtype`` is given without
            ``amp_mode``, if a number is not positive, if ``keep_eval`` contains a module that is not part of the model, or if an
            optimizer that requires a closure is combined with a scaler or with gradient accumulation.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss, clip_norm=1.0)
        >>> trainer.run([(torch.zeros(4, 2), torch.ones(4, 1))], max_epochs=3).iteration
        3
    """
    made = torch.amp.GradScaler(device_in_use(device, model).type) if scaler is True else None
    used = made if isinstance(scaler, bool) else scaler
    step = supervised_training_step(
        model,
        optimizer,
        loss_fn,
        device,
        non_blocking,
        prepare_batch,
        model_transform,
        output_transform,
        gradient_accumulation_steps,
        model_fn,
        amp_mode=amp_mode,
        amp_dtype=amp_dtype,
        scaler=used,
        clip_norm=clip_norm,
        clip_value=clip_value,
        lr_scheduler=lr_scheduler,
        lr_scheduler_interval=lr_scheduler_interval,
        keep_eval=keep_eval,
    )
    trainer = Engine(step)
    if made is not None:
        trainer.state.scaler = made
    if deterministic:
        _make_deterministic(trainer)
    return trainer


def create_supervised_evaluator(
    model: torch.nn.Module,
    metrics: Mapping[str, Metric] | None = None,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
    model_transform: Callable[[Any], Any] = identity,
    output_transform: Callable[[Any, Any, Any], Any] = prediction_and_target,
    amp_mode: Literal["amp"] | None = None,
    model_fn: Callable[[torch.nn.Module, Any], Any] = call_model,
    *,
    amp_dtype: torch.dtype | None = None,
    drop_padding: bool = False,
) -> Engine:
    """Return an engine that evaluates a model with metrics.

    Args:
        model: The model; see :func:`supervised_evaluation_step`.
        metrics: The metrics to attach. Maps each name in ``state.metrics`` to a metric.
        device: The device to move batches to; the model is not moved.
        non_blocking: Whether to copy batches from pinned memory asynchronously, as in :func:`~glowplug.utils.convert_tensor`.
        prepare_batch: Function that converts a batch; ``prepare_batch(batch, device=..., non_blocking=...)`` returns ``(x, y)``.
            By default, each batch must already be a pair ``(x, y)``. If your batches are mappings, pass the result of
            :func:`prepare_batch_from_keys`.
        model_transform: Function that converts the model's output to the prediction.
        output_transform: Function that returns the value of ``state.output``, called as ``output_transform(x, y, y_pred)``. By
            default, ``state.output`` is ``(y_pred, y)``.
        amp_mode: ``"amp"`` runs the model under ``torch.autocast`` for the device. ``None`` (the default) does not use autocast.
        model_fn: Function that calls the model. By default, ``model_fn(model, x)`` returns ``model(x)``.
        amp_dtype: The dtype of ``torch.autocast``; ``None`` uses the default of the device.
        drop_padding: Whether to remove samples that a ``DistributedSampler`` repeats from the output, so that metrics count each
            sample once; see :func:`glowplug.metrics.without_padding`.

    Raises:
        TypeError: If a value of ``metrics`` has no ``attach`` method.
        ValueError: If ``amp_mode`` is unknown or not supported by the device, or if a metric is already attached with another
            usage.

    Example:
        >>> evaluator = create_supervised_evaluator(torch.nn.Linear(2, 1))
        >>> y_pred, y = evaluator.run([(torch.zeros(4, 2), torch.ones(4, 1))]).output
        >>> y_pred.shape
        torch.Size([4, 1])
    """
    step = supervised_evaluation_step(
        model,
        device,
        non_blocking,
        prepare_batch,
        model_transform,
        output_transform,
        model_fn,
        amp_mode=amp_mode,
        amp_dtype=amp_dtype,
    )
    evaluator = Engine(without_padding(step) if drop_padding else step)
    for name, metric in (metrics or {}).items():
        if not hasattr(metric, "attach"):
            raise TypeError(
                f"metrics[{name!r}] is a {type(metric).__name__}, not a glowplug metric; to use a torchmetrics metric, "
                "wrap it with TorchMetric(metric) from glowplug-torchmetrics"
            )
        metric.attach(evaluator, name)
    return evaluator


def _make_deterministic(trainer: Engine) -> None:
    """Enable torch's deterministic algorithms during the runs of an engine."""
    # If a run ends before switch_on() is called, this stays empty.
    previous = ExitStack()

    @trainer.on(Events.STARTED)
    def switch_on() -> None:
        previous.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        previous.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False

    @trainer.on(Events.TEARDOWN)
    def restore() -> None:
        previous.close()
