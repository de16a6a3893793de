"""The scheduler of the batch size of a DataLoader."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

from glowplug import Events
from glowplug.typing import AnyEvent, EngineProtocol
from glowplug_schedulers.base import BaseParamScheduler
from glowplug_schedulers.history import record

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class BatchSizeScheduler(BaseParamScheduler):
    """Set the batch size of a ``DataLoader``, by default at the start of each epoch.

    The new size applies to the next pass over the data. The size is part of the handler's state, so a resumed run has batches of the
    same size.

    Args:
        dataloader: The loader. Its batch sampler must have an attribute ``batch_size``.
        scheduler_fn: Function that takes the index of the event, starting at 0, and returns the batch size. The function is not
            part of the handler's state.
        save_history: Whether to append each size to ``engine.state.param_history["batch_size"]``. Defaults to ``False``.

    Raises:
        TypeError: If ``dataloader`` is not a ``DataLoader``, or if ``scheduler_fn`` is not callable.
        ValueError: If the loader has no batch sampler with a batch size.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from glowplug import Engine
        >>> loader = DataLoader(range(8), batch_size=1)
        >>> trainer = Engine(lambda engine, batch: print(batch.tolist()))
        >>> handle = BatchSizeScheduler(loader, lambda event: 4 * (event + 1)).attach(trainer)
        >>> _ = trainer.run(loader, max_epochs=2)
        [0, 1, 2, 3]
        [4, 5, 6, 7]
        [0, 1, 2, 3, 4, 5, 6, 7]
    """

    default_event: AnyEvent = Events.EPOCH_STARTED

    def __init__(
        self, dataloader: DataLoader[Any], scheduler_fn: Callable[[int], int], save_history: bool = False
    ) -> None:
        from torch.utils.data import DataLoader

        super().__init__("batch_size", save_history)
        if not isinstance(dataloader, DataLoader):
            raise TypeError(f"BatchSizeScheduler: dataloader must be a DataLoader, got {dataloader!r}")
        if not hasattr(dataloader.batch_sampler, "batch_size"):
            raise ValueError(
                "BatchSizeScheduler: the DataLoader needs a batch sampler with the attribute batch_size, got the batch sampler "
                f"{dataloader.batch_sampler!r}; create the DataLoader with batch_size"
            )
        if not callable(scheduler_fn):
            raise TypeError(
                f"BatchSizeScheduler: scheduler_fn must be a function of the event index, got {scheduler_fn!r}"
            )
        self.dataloader = dataloader
        self.scheduler_fn = scheduler_fn
        self._state_attrs += ["batch_size"]

    @property
    def batch_size(self) -> int:
        """The current batch size of the loader."""
        size: int = self.dataloader.batch_sampler.batch_size  # type: ignore[union-attr]  # the constructor checked it
        return size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self.dataloader.batch_sampler.batch_size = size  # type: ignore[union-attr]  # the constructor checked it

    def get_param(self) -> int:
        """Return the batch size for the current event.

        Raises:
            ValueError: If ``scheduler_fn`` does not return an integer of at least 1.
        """
        size: object = self.scheduler_fn(self.event_index)
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(
                f"BatchSizeScheduler: scheduler_fn must return an integer of at least 1, got {size!r} for event {self.event_index}"
            )
        return int(size)

    def __call__(self, engine: EngineProtocol | None, name: str | None = None) -> None:
        """Set the batch size for the next pass.

        Args:
            engine: The engine whose state gets the history; ``None`` if there is none.
            name: Name of the batch size in the history. Defaults to ``"batch_size"``.
        """
        if self.is_repeated(engine):
            return
        self.batch_size = self.advance()
        if self.save_history and engine is not None:
            record(engine, name or self.param_name, self.batch_size)

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[float]]:
        """Return the batch sizes at the first events.

        Args:
            num_events: Number of events.
            **scheduler_kwargs: Arguments of the constructor; ``dataloader`` and ``save_history`` have no effect and can be omitted.

        Returns:
            A list ``[index, size]`` for each event.

        Example:
            >>> BatchSizeScheduler.simulate_values(3, scheduler_fn=lambda event: 2**event)
            [[0, 1], [1, 2], [2, 4]]
        """
        from torch.utils.data import DataLoader

        loader: DataLoader[Any] = DataLoader([0])  # type: ignore[arg-type]  # any sequence is data
        return super().simulate_values(num_events, **{**scheduler_kwargs, "dataloader": loader})
