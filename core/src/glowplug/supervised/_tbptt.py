"""Truncated backpropagation through time, for long sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from glowplug.engine import Engine
from glowplug.events import EventEnum, Events
from glowplug.state import RunStart
from glowplug.supervised._batch import prepare_pair
from glowplug.supervised._checks import check_count, check_integer
from glowplug.typing import EngineProtocol
from glowplug.utils import map_leaves

if TYPE_CHECKING:
    from glowplug.utils import Device


class TbpttEvents(EventEnum):
    """Events that a TBPTT trainer fires before and after each chunk of time steps.

    ``state.time_iteration`` is the number of the current chunk, counted from 1 over the whole run.

    Example:
        >>> TbpttEvents.TIME_ITERATION_COMPLETED(every=30)
        TbpttEvents.TIME_ITERATION_COMPLETED(every=30)
    """

    TIME_ITERATION_STARTED = "time_iteration_started"
    """Fires before each chunk."""
    TIME_ITERATION_COMPLETED = "time_iteration_completed"
    """Fires after each chunk."""


Tbptt_Events = TbpttEvents
"""The name of :class:`TbpttEvents` in pytorch-ignite."""


def create_supervised_tbptt_trainer(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    tbtt_step: int,
    dim: int = 0,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = prepare_pair,
) -> Engine:
    """Return an engine that trains a recurrent model on chunks of sequences.

    Each sequence is split into chunks of ``tbtt_step`` time steps; the last chunk may be shorter. The optimizer steps once
    per chunk. The hidden state is detached and passed to the next chunk (Williams and Peng, 1990).

    After each chunk, ``state.output`` is the loss of that chunk. After the batch, ``state.output`` is the mean of the chunk
    losses. Each loss is detached and stays on its device, so no step waits for an accelerator. If a handler of a chunk
    event calls ``terminate()``, the run ends after the batch.

    Args:
        model: The model, which returns ``(y_pred, hidden)``. The trainer calls ``model(x)`` for the first chunk and
            ``model(x, hidden)`` for later chunks. The hidden state may contain only tensors and ``None``, which can be nested
            in tuples, lists and mappings. The trainer sets the model to training mode, but does not move the model to
            ``device``.
        optimizer: The optimizer.
        loss_fn: Loss function; ``loss_fn(y_pred, y)`` returns a scalar tensor.
        tbtt_step: Number of time steps in a chunk.
        dim: The time dimension of ``x`` and ``y``.
        device: The device to move batches to; ``None`` leaves them where they are.
        non_blocking: Whether to copy batches from pinned memory asynchronously, as in :func:`~glowplug.utils.convert_tensor`.
        prepare_batch: Function called as ``prepare_batch(batch, device=..., non_blocking=...)``; returns the tensors ``(x, y)``.

    Returns:
        The trainer; the list ``trainer.state_dict_user_keys`` contains ``"time_iteration"``.

    Raises:
        ValueError: If ``tbtt_step`` is below 1. A run raises a ``ValueError`` if ``x`` or ``y`` has no dimension ``dim``, or
            if ``x`` and ``y`` have different numbers of time steps.
        TypeError: If ``tbtt_step`` or ``dim`` is not an integer. A run raises a ``TypeError`` if ``x`` or ``y`` is not a
            tensor, or if the model does not return a pair ``(y_pred, hidden)`` with a valid hidden state.

    Example:
        >>> model = torch.nn.GRU(input_size=1, hidden_size=2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_tbptt_trainer(
        ...     model, optimizer, torch.nn.functional.mse_loss, tbtt_step=4
        ... )
        >>> @trainer.on(TbpttEvents.TIME_ITERATION_COMPLETED(every=2))
        ... def show(engine):
        ...     print(engine.state.time_iteration)
        >>> state = trainer.run([(torch.zeros(10, 3, 1), torch.zeros(10, 3, 2))], max_epochs=2)
        2
        4
        6
    """
    check_count("tbtt_step", tbtt_step)
    check_integer("dim", dim)

    def step(engine: EngineProtocol, batch: Any) -> torch.Tensor:
        model.train()
        x, y = prepare_batch(batch, device=device, non_blocking=non_blocking)
        losses: list[torch.Tensor] = []
        # The model's arguments after x: none for the first chunk, then the hidden state.
        hidden: tuple[Any, ...] = ()
        for x_chunk, y_chunk in _chunks(x, y, tbtt_step, dim):
            engine.state.time_iteration += 1
            engine.fire_event(TbpttEvents.TIME_ITERATION_STARTED)
            optimizer.zero_grad()
            y_pred, after = _checked(model(x_chunk, *hidden))
            loss = loss_fn(y_pred, y_chunk)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            hidden = (map_leaves(after, _detached),)
            engine.state.output = loss.detach()
            losses.append(engine.state.output)
            engine.fire_event(TbpttEvents.TIME_ITERATION_COMPLETED)
        return torch.stack(losses).mean()

    trainer = Engine(step)
    trainer.register_events(*TbpttEvents, event_to_attr=dict.fromkeys(TbpttEvents, "time_iteration"))
    trainer.state_dict_user_keys.append("time_iteration")
    trainer.add_event_handler(Events.STARTED, _reset_counter)
    return trainer


def _reset_counter(engine: EngineProtocol) -> None:
    """Reset the chunk counter at the start of a new run."""
    if engine.state.run_start is RunStart.NEW:
        engine.state.time_iteration = 0


def _chunks(x: Any, y: Any, size: int, dim: int) -> zip[tuple[torch.Tensor, torch.Tensor]]:
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{name} must be a tensor with time steps along dim={dim}, got {type(value).__name__}; "
                f"convert {name} to a tensor in prepare_batch(batch, device, non_blocking)"
            )
        if not -value.ndim <= dim < value.ndim:
            raise ValueError(
                f"{name} of shape {tuple(value.shape)} has no time dimension dim={dim}; set dim to the time dimension of x and y"
            )
    if x.shape[dim] != y.shape[dim]:
        raise ValueError(
            f"x and y must have the same number of time steps along dim={dim}; got x {tuple(x.shape)} and y "
            f"{tuple(y.shape)}. If y has one target per sequence, repeat the target for each time step"
        )
    return zip(x.split(size, dim), y.split(size, dim), strict=True)


def _checked(returned: Any) -> tuple[Any, Any]:
    if isinstance(returned, (tuple, list)) and len(returned) == 2:  # noqa: PLR2004 - a pair
        return returned[0], returned[1]
    raise TypeError(
        f"the model must return the pair (y_pred, hidden), as torch.nn.LSTM does; got {type(returned).__name__}"
    )


def _detached(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.detach()
    if leaf is None:
        return None
    raise TypeError(
        "the hidden state that the model returns may contain only tensors and None, in tuples, lists and mappings, but it "
        f"contains an object of type {type(leaf).__name__}"
    )
