"""The handler of stochastic weight averaging."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.swa_utils import get_swa_multi_avg_fn, update_bn

from glowplug import Events, RemovableEventHandle, RunStart
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_ema.averaged_copy import AveragedCopy, check_count


def _identity(batch: Any) -> Any:
    return batch


class SWAHandler:
    """Keep the mean of a model's weights from one epoch on (stochastic weight averaging, SWA).

    Each call of the handler adds the current weights of the model to the average, by default at the end of each epoch. The method is
    described in Izmailov et al., *Averaging Weights Leads to Wider Optima and Better Generalization* (2018). It is used with a
    constant or cyclic learning rate, such as ``torch.optim.swa_utils.SWALR``.

    The engine's ``state_dict()`` contains the average and the number of weights in it, so a resumed run continues exactly. If the handler
    is attached with :meth:`attach`, a new run starts a new average.

    Args:
        model: The model. Wrappers such as ``DistributedDataParallel``, ``DataParallel`` and ``torch.compile`` are removed.
        start_epoch: First epoch whose weights count; 1 is the first epoch of the run. Defaults to the first epoch.
        start_iteration: First iteration whose weights count; cannot be combined with ``start_epoch``.
        handle_buffers: ``"copy"`` (the default) copies the buffers of the model, such as the statistics of batch normalization;
            call :meth:`update_bn` after the training. ``"update"`` averages the buffers; buffers of integers are copied.
        state_key: Key of the handler's state in ``engine.state_dict()``. Defaults to the class name; if another handler has the
            key, this handler gets a key such as ``SWAHandler#2``.

    Attributes:
        swa_model: The averaged model: a module like the model, without wrappers and without gradients, in evaluation mode. Before the
            first update, it has the weights that the model had when the handler was created.
        model: The model without wrappers.
        num_averaged: Number of weights in the average; 0 before the first update.

    Raises:
        ValueError: If ``model`` is not a module, if the start is not an integer of at least 1, if both starts are given, or if
            ``handle_buffers`` is unknown.

    Example:
        >>> from glowplug import Engine
        >>> model = nn.Linear(1, 1, bias=False)
        >>> def step(engine, batch):
        ...     nn.init.constant_(model.weight, engine.state.epoch)
        >>> trainer, swa = Engine(step), SWAHandler(model, start_epoch=2)
        >>> with swa.attach(trainer):
        ...     _ = trainer.run([0], max_epochs=4)
        >>> swa.num_averaged, swa.swa_model.weight.item()
        (3, 3.0)
    """

    def __init__(
        self,
        model: nn.Module,
        start_epoch: int | None = None,
        start_iteration: int | None = None,
        handle_buffers: Literal["copy", "update"] = "copy",
        *,
        state_key: str | None = None,
    ) -> None:
        if start_epoch is not None and start_iteration is not None:
            raise ValueError(
                "SWAHandler: start_epoch and start_iteration were both given; pass only one of them"
            )
        check_count("SWAHandler", "start_epoch", start_epoch)
        check_count("SWAHandler", "start_iteration", start_iteration)
        if handle_buffers not in {"copy", "update"}:
            raise ValueError(f"SWAHandler: handle_buffers must be 'copy' or 'update', got {handle_buffers!r}")
        self.start_epoch = start_epoch
        self.start_iteration = start_iteration
        self._copy = AveragedCopy("SWAHandler", model, handle_buffers)
        self.num_averaged = 0
        self.state_key = type(self).__name__ if state_key is None else state_key
        self._was_loaded = False

    @property
    def swa_model(self) -> nn.Module:
        """The averaged model."""
        return self._copy.averaged

    @property
    def model(self) -> nn.Module:
        """The model without wrappers."""
        return self._copy.model

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.EPOCH_COMPLETED
    ) -> RemovableEventHandle:
        """Update the average at an event, and start a new average in a new run.

        Args:
            engine: The trainer.
            event_name: Event at which the weights are added to the average, such as ``Events.ITERATION_COMPLETED(every=100)``.

        Returns:
            A handle that detaches the handler.

        Example:
            >>> from glowplug.testing import FakeEngine
            >>> fake, swa = FakeEngine(), SWAHandler(nn.Linear(1, 1), start_epoch=5)
            >>> handle = swa.attach(fake)
            >>> for epoch in (4, 5, 6):
            ...     _ = fake.fire(Events.EPOCH_COMPLETED, epoch=epoch)
            >>> swa.num_averaged
            2
        """
        return RemovableEventHandle.join(
            engine.add_event_handler(event_name, self),
            engine.add_event_handler(Events.STARTED, self._on_started),
        )

    def __call__(self, engine: EngineProtocol) -> None:
        """Add the weights of the model to the average, if the start is reached.

        Args:
            engine: The trainer.

        Raises:
            RuntimeError: If the call takes place within :meth:`averaged_weights`.
        """
        state = engine.state
        if state.epoch < (self.start_epoch or 0) or state.iteration < (self.start_iteration or 0):
            return
        average = get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]  # torch has no annotation
        self._copy.update(average, self.num_averaged)
        self.num_averaged += 1

    def averaged_weights(self) -> AbstractContextManager[nn.Module]:
        """Give the model the averaged weights and buffers within a ``with`` block, for example to evaluate or to save it.

        When the block ends, even by an exception, the model gets its weights and buffers back. Within the block, a copy of them takes
        up memory on the same devices. Do not train the model within the block. Before the first update, the model keeps its weights.

        Returns:
            A context manager that returns :attr:`model`.

        Example:
            >>> swa = SWAHandler(nn.Linear(1, 1))
            >>> with swa.averaged_weights() as model:
            ...     weights = model.state_dict()
        """
        return self._copy.swapped() if self.num_averaged else nullcontext(self.model)

    def update_bn(
        self,
        data: Iterable[Any],
        prepare_batch: Callable[[Any], Any] = _identity,
        device: torch.device | str | None = None,
    ) -> None:
        """Compute the statistics of the batch normalization layers of :attr:`swa_model` from one pass over the data.

        Averaged weights do not fit the statistics of the model. A model without batch normalization is not changed, and no data is
        read.

        Args:
            data: The batches of the training data.
            prepare_batch: Function that takes a batch and returns the input of the model, or a tuple or list that starts with it. By
                default, the batch itself is used.
            device: Device to move the inputs to; ``None`` (the default) leaves them where they are.

        Example:
            >>> swa = SWAHandler(nn.Sequential(nn.BatchNorm1d(1)))
            >>> swa.update_bn([{"x": torch.tensor([[1.0], [3.0]])}], prepare_batch=lambda batch: batch["x"])
            >>> swa.swa_model[0].running_mean.item()
            2.0
        """
        update_bn(map(prepare_batch, data), self.swa_model, None if device is None else torch.device(device))

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and their number.

        Example:
            >>> SWAHandler(nn.Linear(1, 1)).state_dict()["num_averaged"]
            0
        """
        return {"num_averaged": self.num_averaged, "swa_model": self._copy.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state that :meth:`state_dict` returned, for the next run.

        Raises:
            ValueError: If an entry is missing, or if the weights belong to another model. In that case, nothing is loaded.
        """
        missing = [key for key in ("num_averaged", "swa_model") if key not in state_dict]
        if missing:
            raise ValueError(
                f"SWAHandler: the state lacks {', '.join(missing)}; load a result of SWAHandler.state_dict()"
            )
        self._copy.load_state_dict(state_dict["swa_model"])
        self.num_averaged = state_dict["num_averaged"]
        self._was_loaded = True

    def reset(self) -> None:
        """Start a new average with the next update."""
        self.num_averaged = 0

    def _on_started(self, engine: EngineProtocol) -> None:
        if engine.state.run_start is RunStart.NEW and not self._was_loaded:
            self.reset()
        self._was_loaded = False
