"""The handler that keeps an exponential moving average of a model's weights."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from glowplug import Events, RemovableEventHandle
from glowplug.engine import EngineReference
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_ema.averaged_copy import AveragedCopy, Buffers, check_count

_NAME = "ema_momentum"


class EMAHandler:
    """Keep an exponential moving average of a model's weights.

    Each call of the handler computes ``average = (1 - momentum) * average + momentum * weights``. The average starts with the weights
    that the model has when the handler is created. The momentum of the next update is the attribute ``ema_momentum`` of
    ``engine.state``, which other handlers may change.

    The engine's ``state_dict()`` contains the average, the momentum and the number of updates, so a resumed run continues exactly. A
    new run continues the average.

    Args:
        model: The model. Wrappers such as ``DistributedDataParallel``, ``DataParallel`` and ``torch.compile`` are removed.
        momentum: Weight of the model in each update, greater than 0 and less than 1. Defaults to 0.0002.
        momentum_warmup: Momentum of the first update, from 0 to 1. The momentum then changes linearly and reaches ``momentum`` in
            update ``warmup_iters``. There is a warm-up only if both ``momentum_warmup`` and ``warmup_iters`` are given.
        warmup_iters: Number of updates in the warm-up.
        handle_buffers: What happens to buffers, such as the statistics of batch normalization. ``"copy"`` (the default) copies the
            buffers of the model. ``"update"`` averages them; buffers of integers are copied. With ``"ema_train"``, ``ema_model`` is in
            training mode, and its buffers change only when it processes data.
        state_key: Key of the handler's state in ``engine.state_dict()``. Defaults to the class name; if another handler has the
            key, this handler gets a key such as ``EMAHandler#2``.

    Attributes:
        ema_model: The averaged model: a module like the model, without wrappers and without gradients. It is in evaluation mode,
            or in training mode with ``handle_buffers="ema_train"``.
        model: The model without wrappers.
        momentum: The momentum after the warm-up.
        handle_buffers: The option of the same name.
        num_updates: Number of updates so far.

    Raises:
        ValueError: If ``model`` is not a module, if a momentum is out of range, if ``warmup_iters`` is not an integer of at least 1,
            or if ``handle_buffers`` is unknown.

    Example:
        >>> from glowplug import Engine
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 0.0)
        >>> def step(engine, batch):
        ...     nn.init.constant_(model.weight, batch)
        >>> trainer, ema = Engine(step), EMAHandler(model, momentum=0.5)
        >>> with ema.attach(trainer):
        ...     _ = trainer.run([4.0, 8.0])
        >>> model.weight.item(), ema.ema_model.weight.item()
        (8.0, 5.0)
        >>> with ema.averaged_weights():
        ...     model.weight.item()
        5.0
    """

    def __init__(
        self,
        model: nn.Module,
        momentum: float = 0.0002,
        momentum_warmup: float | None = None,
        warmup_iters: int | None = None,
        handle_buffers: Buffers = "copy",
        *,
        state_key: str | None = None,
    ) -> None:
        if not 0 < momentum < 1:
            raise ValueError(
                f"EMAHandler: Invalid momentum: it must be greater than 0 and less than 1, got {momentum!r}"
            )
        self.momentum = momentum
        self._warm_up = _warm_up(momentum, momentum_warmup, warmup_iters)
        self._copy = AveragedCopy("EMAHandler", model, handle_buffers)
        self.num_updates = 0
        self.state_key = type(self).__name__ if state_key is None else state_key
        # The momentum of the last update; used where no engine has an attribute for it.
        self._last_momentum = momentum
        self._attachments: list[_Attachment] = []

    @property
    def ema_model(self) -> nn.Module:
        """The averaged model."""
        return self._copy.averaged

    @property
    def model(self) -> nn.Module:
        """The model without wrappers."""
        return self._copy.model

    @property
    def handle_buffers(self) -> Buffers:
        """What happens to buffers."""
        return self._copy.handle_buffers

    def attach(
        self,
        engine: EngineProtocol,
        name: str = _NAME,
        warn_if_exists: bool = True,
        event_name: AnyEvent = Events.ITERATION_COMPLETED,
        *,
        event: AnyEvent | None = None,
    ) -> RemovableEventHandle:
        """Update the average at an event.

        Args:
            engine: The trainer.
            name: Attribute of ``engine.state`` that contains the momentum. If two handlers are attached to one engine, each needs its
                own name. When the returned handle detaches the handler, it removes the attribute, provided that this call created it.
            warn_if_exists: Whether to warn if ``engine.state`` already has the attribute. The value is then not changed.
            event_name: Event at which the average is updated.
            event: ignite's name for ``event_name``.

        Returns:
            A handle that detaches the handler.

        Raises:
            TypeError: If ``name`` is not a string.
            ValueError: If ``name`` cannot be the name of an attribute, or if both ``event_name`` and ``event`` are given.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> fake = FakeEngine()
            >>> handle = EMAHandler(nn.Linear(1, 1), momentum=0.1).attach(fake)
            >>> fake.fire(Events.ITERATION_COMPLETED).state.ema_momentum
            0.1
        """
        _check_name(name)
        if event is not None:
            if event_name != Events.ITERATION_COMPLETED:
                raise ValueError(
                    "EMAHandler.attach: event_name and event were both given, but event is another name of event_name; pass only "
                    "event_name"
                )
            event_name = event
        is_new = not hasattr(engine.state, name)
        if not is_new and warn_if_exists:
            warnings.warn(
                f"EMAHandler: Attribute {name!r} already exists in engine.state, so its value is used as the momentum. If it belongs to "
                "another handler, pass another name; if it is right, pass warn_if_exists=False",
                GlowplugWarning,
                stacklevel=2,
            )
        # This call may load a state that the engine has loaded before.
        handle = engine.add_event_handler(event_name, self, name)
        if is_new:
            setattr(engine.state, name, self._last_momentum)
        attachment = _Attachment(EngineReference(engine), name, is_new)
        self._attachments.append(attachment)
        return RemovableEventHandle.join(
            handle, RemovableEventHandle(partial(_forget, weakref.ref(self), attachment))
        )

    def __call__(self, engine: EngineProtocol, name: str = _NAME) -> None:
        """Update the average.

        Args:
            engine: The trainer.
            name: Attribute of ``engine.state`` that contains the momentum.

        Raises:
            ValueError: If the momentum in ``engine.state`` is not a number from 0 to 1.
            RuntimeError: If the call takes place within :meth:`averaged_weights`.
        """
        if self._warm_up is None:
            momentum = float(getattr(engine.state, name, self._last_momentum))
            if not 0 <= momentum <= 1:
                raise ValueError(
                    f"EMAHandler: the momentum engine.state.{name} must be from 0 to 1, got {momentum}; correct the handler that "
                    "sets it, or attach EMAHandler with another name"
                )
        else:
            momentum = self._warm_up.momentum(self.num_updates)
        setattr(engine.state, name, momentum)
        average = get_ema_multi_avg_fn(1 - momentum)  # type: ignore[no-untyped-call]  # torch has no annotation
        self._copy.update(average, self.num_updates)
        self._last_momentum = momentum
        self.num_updates += 1

    def averaged_weights(self) -> AbstractContextManager[nn.Module]:
        """Give the model the averaged weights and buffers within a ``with`` block, for example to evaluate or to save it.

        When the block ends, even by an exception, the model gets its weights and buffers back. Within the block, a copy of them takes
        up memory on the same devices. Do not train the model within the block.

        Returns:
            A context manager that returns :attr:`model`.

        Example:
            >>> ema = EMAHandler(nn.Linear(1, 1))
            >>> with ema.averaged_weights() as model:
            ...     weights = model.state_dict()
        """
        return self._copy.swapped()

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights, the momentum and the number of updates.

        Example:
            >>> EMAHandler(nn.Linear(1, 1)).state_dict()["num_updates"]
            0
        """
        current = (attachment.momentum() for attachment in self._attachments)
        momentum = next((value for value in current if value is not None), self._last_momentum)
        return {"num_updates": self.num_updates, "momentum": momentum, "ema_model": self._copy.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state that :meth:`state_dict` returned.

        Raises:
            ValueError: If an entry is missing, or if the weights belong to another model. In that case, nothing is loaded.
        """
        missing = [key for key in ("num_updates", "momentum", "ema_model") if key not in state_dict]
        if missing:
            raise ValueError(
                f"EMAHandler: the state lacks {', '.join(missing)}; load a result of EMAHandler.state_dict(). Load the weights of an "
                "averaged model with ema_model.load_state_dict()"
            )
        self._copy.load_state_dict(state_dict["ema_model"])
        self.num_updates, self._last_momentum = state_dict["num_updates"], state_dict["momentum"]
        for attachment in self._attachments:
            attachment.publish(self._last_momentum)

    def _forget(self, attachment: _Attachment) -> None:
        self._attachments.remove(attachment)
        attachment.clear()


@dataclass(frozen=True)
class _WarmUp:
    """Momentum that changes linearly over the first updates."""

    first: float
    last: float
    updates: int

    def momentum(self, done: int) -> float:
        """Return the momentum of the next update, after a number of updates."""
        progress = done / max(1, self.updates - 1)
        return self.last if progress >= 1 else self.first + (self.last - self.first) * progress


@dataclass(frozen=True, eq=False)
class _Attachment:
    """The attribute of one engine's state that contains the momentum."""

    engine: EngineReference
    name: str
    is_own: bool
    """Whether the handler created the attribute."""

    def momentum(self) -> float | None:
        """Return the current value; ``None`` if the engine or the attribute no longer exists."""
        engine = self.engine()
        value = None if engine is None else getattr(engine.state, self.name, None)
        return None if value is None else float(value)

    def publish(self, momentum: float) -> None:
        """Set the attribute."""
        engine = self.engine()
        if engine is not None:
            setattr(engine.state, self.name, momentum)

    def clear(self) -> None:
        """Remove the attribute if the handler created it."""
        engine = self.engine()
        if self.is_own and engine is not None and hasattr(engine.state, self.name):
            delattr(engine.state, self.name)


def _forget(handler: weakref.ref[EMAHandler], attachment: _Attachment) -> None:
    found = handler()
    if found is not None:
        found._forget(attachment)  # noqa: SLF001 - this function is part of the class


def _warm_up(momentum: float, momentum_warmup: float | None, warmup_iters: int | None) -> _WarmUp | None:
    if momentum_warmup is not None and not 0 <= momentum_warmup <= 1:
        raise ValueError(
            f"EMAHandler: Invalid momentum_warmup: it must be from 0 to 1, got {momentum_warmup!r}"
        )
    check_count("EMAHandler", "warmup_iters", warmup_iters)
    if momentum_warmup is None or warmup_iters is None:
        return None
    return _WarmUp(momentum_warmup, momentum, warmup_iters)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or isinstance(name, Events):
        raise TypeError(
            f"EMAHandler.attach: name must be a string, the attribute of engine.state for the momentum, got {name!r}; pass an event as "
            "event_name=..."
        )
    if not name.isidentifier():
        raise ValueError(f"EMAHandler.attach: name must be a valid name of an attribute, got {name!r}")
