"""Engines, and steps for engines, that train and evaluate a model on pairs of inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any, Literal, TypeAlias

import torch

from glowplug.engine import Engine
from glowplug.events import Events
from glowplug.handles import RemovableEventHandle
from glowplug.metrics._metric import Metric, identity
from glowplug.typing import EngineProtocol

__all__ = [
    "convert_tensor",
    "create_supervised_evaluator",
    "create_supervised_trainer",
    "supervised_evaluation_step",
    "supervised_training_step",
]

Device: TypeAlias = str | torch.device | None
Step: TypeAlias = Callable[[EngineProtocol, Any], Any]


def convert_tensor(batch: Any, device: Device = None, non_blocking: bool = False) -> Any:
    """Return a batch with all its tensors on a device (U-001).

    Args:
        batch: a tensor, a string, or mappings, sequences and named tuples of these, nested as you like.
        device: where to; ``None`` leaves the tensors where they are.
        non_blocking: do not wait for the copy, where the source is pinned memory.

    Returns:
        The same structure; strings are passed through.

    Raises:
        TypeError: something else in it.

    Example:
        >>> convert_tensor({"x": torch.zeros(2), "names": ["a", "b"]}, device="meta")["x"].device
        device(type='meta')
    """

    def move(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return leaf if device is None else leaf.to(device=device, non_blocking=non_blocking)
        if isinstance(leaf, (str, bytes)):
            return leaf
        raise TypeError(
            f"cannot move a {type(leaf).__name__} to a device: a batch is tensors, strings, and mappings and sequences "
            "of these. Give prepare_batch= a function (batch, device, non_blocking) that makes inputs and targets of yours"
        )

    return map_leaves(batch, move)


def map_leaves(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return the same structure of mappings, tuples and lists, with a function applied to all that is in it.

    Example:
        >>> map_leaves({"a": (1, [2])}, lambda leaf: leaf + 1)
        {'a': (2, [3])}
    """
    if isinstance(value, torch.Tensor):  # the common case, found faster than that it is no mapping
        return function(value)
    if isinstance(value, Mapping):
        return type(value)({key: map_leaves(item, function) for key, item in value.items()})  # type: ignore[call-arg]  # dict and its like take a dict
    if isinstance(value, (list, tuple)):
        mapped = (map_leaves(item, function) for item in value)
        return type(value)(*mapped) if hasattr(value, "_fields") else type(value)(mapped)
    return function(value)


def check_integer(name: str, value: object) -> None:
    """Refuse what is no integer."""
    if not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")


def check_count(name: str, value: int) -> None:
    """Refuse what is no number of things to do at a time."""
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")


def prepare_pair(batch: Any, device: Device = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """Return the inputs and the targets of a batch that is a pair, on the device."""
    x, y = batch
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)


def _call_model(model: torch.nn.Module, x: Any) -> Any:
    return model(x)


def _detached_loss(_x: Any, _y: Any, _y_pred: Any, loss: torch.Tensor) -> torch.Tensor:
    return loss.detach()


def _prediction_and_target(_x: Any, y: Any, y_pred: Any) -> tuple[Any, Any]:
    return y_pred, y


def supervised_training_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
    model_transform: Callable[[Any], Any] = identity,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = _detached_loss,
    gradient_accumulation_steps: int = 1,
    model_fn: Callable[[torch.nn.Module, Any], Any] = _call_model,
    *,
    amp_mode: Literal["amp"] | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> Step:
    """Return a training step for ``Engine(step)``: forward, backward, and a step of the optimizer (E-192, E-195).

    With ``gradient_accumulation_steps=n`` the gradients of n iterations are averaged, and the optimizer steps at every
    n-th iteration, counted over the whole run: windows cross the border of epochs. A last, incomplete window is not
    stepped: its gradients stay in the parameters, where a run that is gone on with completes it and a new run clears
    them. They are no part of a checkpoint, so save at iterations divisible by n to resume exactly.

    Args:
        model: set to training mode in each step. It is not moved: do that before making the optimizer.
        optimizer: whose step it is.
        loss_fn: ``loss_fn(y_pred, y)``, a tensor without dimensions.
        device: where batches go; ``None`` leaves them where they are.
        non_blocking: as for :func:`convert_tensor`.
        prepare_batch: ``prepare_batch(batch, device=, non_blocking=)`` returns ``(x, y)``.
        model_transform: makes of what the model returns what ``loss_fn`` takes.
        output_transform: ``output_transform(x, y, y_pred, loss)`` returns ``state.output``. By default that is the loss,
            as a detached tensor on its device: no step waits for an accelerator.
        gradient_accumulation_steps: iterations per step of the optimizer; see above.
        model_fn: ``model_fn(model, x)`` calls the model.
        amp_mode: ``"amp"`` runs model and loss under ``torch.autocast`` for the device.
        scaler: scales the loss and unscales the gradients; needs ``amp_mode="amp"``.

    Raises:
        ValueError: an unknown ``amp_mode``, or one that the device has not; a ``scaler`` without it; a
            ``gradient_accumulation_steps`` below 1 (E-194).
        TypeError: a ``gradient_accumulation_steps`` that is no integer.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = Engine(supervised_training_step(model, optimizer, torch.nn.functional.mse_loss))
        >>> trainer.run([(torch.zeros(4, 2), torch.ones(4, 1))]).output.shape
        torch.Size([])
    """
    check_count("gradient_accumulation_steps", gradient_accumulation_steps)
    if scaler is not None and amp_mode is None:
        raise ValueError("a scaler needs amp_mode='amp': without autocast there is nothing to scale for")
    autocast = _autocast(amp_mode, device, model)
    window = gradient_accumulation_steps

    def step(engine: EngineProtocol, batch: Any) -> Any:
        iteration = engine.state.iteration
        if (iteration - 1) % window == 0:
            optimizer.zero_grad()
        model.train()
        x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
        with autocast():
            y_pred = model_transform(model_fn(model, x))
            loss = loss_fn(y_pred, y)
        share = loss if window == 1 else loss / window
        scaled = share if scaler is None else scaler.scale(share)
        scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if iteration % window == 0:
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
        return output_transform(x, y, y_pred, loss)

    return step


def supervised_evaluation_step(
    model: torch.nn.Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
    model_transform: Callable[[Any], Any] = identity,
    output_transform: Callable[[Any, Any, Any], Any] = _prediction_and_target,
    model_fn: Callable[[torch.nn.Module, Any], Any] = _call_model,
    *,
    amp_mode: Literal["amp"] | None = None,
) -> Step:
    """Return an evaluation step for ``Engine(step)``: forward without gradients, in evaluation mode (E-196, E-197).

    The model stays in evaluation mode; a training step sets it back.

    Args:
        model: as for :func:`supervised_training_step`, and so are the others.
        device: where batches go.
        non_blocking: as for :func:`convert_tensor`.
        prepare_batch: ``prepare_batch(batch, device=, non_blocking=)`` returns ``(x, y)``.
        model_transform: makes of what the model returns the prediction.
        output_transform: ``output_transform(x, y, y_pred)`` returns ``state.output``; by default ``(y_pred, y)``, which is
            what metrics take.
        model_fn: ``model_fn(model, x)`` calls the model.
        amp_mode: ``"amp"`` runs the model under ``torch.autocast`` for the device.

    Raises:
        ValueError: an unknown ``amp_mode``, or one that the device has not.

    Example:
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


def create_supervised_trainer(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
    model_transform: Callable[[Any], Any] = identity,
    output_transform: Callable[[Any, Any, Any, torch.Tensor], Any] = _detached_loss,
    deterministic: bool = False,
    amp_mode: Literal["amp"] | None = None,
    scaler: bool | torch.amp.GradScaler = False,
    gradient_accumulation_steps: int = 1,
    model_fn: Callable[[torch.nn.Module, Any], Any] = _call_model,
) -> Engine:
    """Return an engine that trains a model (E-190).

    Args:
        model: as for :func:`supervised_training_step`, and so are all that are not named here.
        optimizer: whose step it is.
        loss_fn: ``loss_fn(y_pred, y)``, a tensor without dimensions.
        device: where batches go; the model is not moved (E-191).
        non_blocking: as for :func:`convert_tensor`.
        prepare_batch: ``prepare_batch(batch, device=, non_blocking=)`` returns ``(x, y)``.
        model_transform: makes of what the model returns what ``loss_fn`` takes.
        output_transform: ``output_transform(x, y, y_pred, loss)`` returns ``state.output``; by default the detached loss.
        deterministic: during its runs, torch uses deterministic algorithms (and warns where it has none), as
            ``torch.use_deterministic_algorithms(True, warn_only=True)`` does; the former setting comes back at the end of
            a run, not when it is interrupted. It seeds nothing: call ``torch.manual_seed`` yourself.
        amp_mode: ``"amp"`` runs model and loss under ``torch.autocast`` for the device.
        scaler: ``True`` makes a ``torch.amp.GradScaler``, which is ``state.scaler`` then (E-193); or give your own.
        gradient_accumulation_steps: iterations per step of the optimizer, counted over the whole run; a last, incomplete
            window is not stepped (E-192).
        model_fn: ``model_fn(model, x)`` calls the model.

    Raises:
        TypeError: as for :func:`supervised_training_step`.
        ValueError: the same.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
        >>> trainer.run([(torch.zeros(4, 2), torch.ones(4, 1))], max_epochs=3).iteration
        3
    """
    made = torch.amp.GradScaler(_device_in_use(device, model).type) if scaler is True else None
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
        scaler=made if isinstance(scaler, bool) else scaler,
    )
    trainer = Engine(step)
    if made is not None:
        trainer.state.scaler = made  # type: ignore[attr-defined]  # a state takes further attributes
    if deterministic:
        _DeterministicRuns().attach(trainer)
    return trainer


def create_supervised_evaluator(
    model: torch.nn.Module,
    metrics: Mapping[str, Metric] | None = None,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
    model_transform: Callable[[Any], Any] = identity,
    output_transform: Callable[[Any, Any, Any], Any] = _prediction_and_target,
    amp_mode: Literal["amp"] | None = None,
    model_fn: Callable[[torch.nn.Module, Any], Any] = _call_model,
) -> Engine:
    """Return an engine that evaluates a model, with metrics attached by their names (E-196).

    Args:
        model: as for :func:`supervised_evaluation_step`, and so are all that are not named here.
        metrics: by name in ``state.metrics``.
        device: where batches go.
        non_blocking: as for :func:`convert_tensor`.
        prepare_batch: ``prepare_batch(batch, device=, non_blocking=)`` returns ``(x, y)``.
        model_transform: makes of what the model returns the prediction.
        output_transform: ``output_transform(x, y, y_pred)`` returns ``state.output``; by default ``(y_pred, y)``.
        amp_mode: ``"amp"`` runs the model under ``torch.autocast`` for the device.
        model_fn: ``model_fn(model, x)`` calls the model.

    Raises:
        TypeError: one of ``metrics`` cannot be attached.
        ValueError: as for :func:`supervised_evaluation_step` and :meth:`Metric.attach`.

    Example:
        >>> evaluator = create_supervised_evaluator(torch.nn.Linear(2, 1))
        >>> y_pred, y = evaluator.run([(torch.zeros(4, 2), torch.ones(4, 1))]).output
        >>> y_pred.shape
        torch.Size([4, 1])
    """
    evaluator = Engine(
        supervised_evaluation_step(
            model,
            device,
            non_blocking,
            prepare_batch,
            model_transform,
            output_transform,
            model_fn,
            amp_mode=amp_mode,
        )
    )
    for name, metric in (metrics or {}).items():
        if not hasattr(metric, "attach"):
            raise TypeError(
                f"metrics[{name!r}] is a {type(metric).__name__}, not a metric of glowplug; of one of torchmetrics, "
                "glowplug-torchmetrics makes one: TorchMetric(metric)"
            )
        metric.attach(evaluator, name)
    return evaluator


class _DeterministicRuns:
    """Turns torch's deterministic algorithms on for the runs of an engine."""

    def __init__(self) -> None:
        self._former: tuple[bool, bool, bool] | None = None

    def attach(self, engine: EngineProtocol) -> RemovableEventHandle:
        return RemovableEventHandle.join(
            engine.add_event_handler(Events.STARTED, self.switch_on),
            engine.add_event_handler(Events.TEARDOWN, self.restore),
        )

    def switch_on(self) -> None:
        self._former = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
        )
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False

    def restore(self) -> None:
        if self._former is not None:  # a run can end before its STARTED handlers have all run
            enabled, warn_only, torch.backends.cudnn.benchmark = self._former
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            self._former = None


def _device_in_use(device: Device, model: torch.nn.Module) -> torch.device:
    """The device of the batches; without one, that of the model, which they must be on."""
    if device is not None:
        return torch.device(device)
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _autocast(
    amp_mode: str | None, device: Device, model: torch.nn.Module
) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the context for one step."""
    if amp_mode is None:
        return nullcontext
    if amp_mode != "amp":
        raise ValueError(
            f"amp_mode must be 'amp' (torch.autocast) or None, got {amp_mode!r}; for another kind of mixed precision, "
            "write the step yourself: Engine(step)"
        )
    kind = _device_in_use(device, model).type
    if kind in {"mps", "xla"} or not torch.amp.is_autocast_available(kind):
        raise ValueError(
            f"amp_mode='amp' does not go with the device type {kind!r}; leave it out, or use torch.autocast in model_fn="
        )
    return lambda: torch.autocast(kind)
