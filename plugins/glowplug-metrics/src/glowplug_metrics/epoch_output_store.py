"""EpochOutputStore: all outputs of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glowplug import Events, Phase, RemovableEventHandle, identity
from glowplug.typing import EngineProtocol

__all__ = ["EpochOutputStore"]


class EpochOutputStore:
    """Store the outputs of all iterations of an epoch.

    The list is new in each epoch. Its content is part of the engine's state, so that a run that is resumed in the middle of an epoch
    has all outputs of the epoch.

    Args:
        output_transform: Function that converts the engine's output before it is stored. By default, the output is stored
            unchanged.

    Attributes:
        data: The stored outputs of the current epoch or, after the run, of the last one.

    Raises:
        TypeError: If ``output_transform`` is not callable.

    Example:
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: 2 * batch)
        >>> handle = EpochOutputStore().attach(engine, "doubled")
        >>> engine.run([1, 2, 3]).doubled
        [2, 4, 6]
    """

    phase = Phase.METRICS

    def __init__(self, output_transform: Callable[[Any], Any] = identity) -> None:
        if not callable(output_transform):
            raise TypeError(f"output_transform must be a function of the output, got {output_transform!r}")
        self.output_transform = output_transform
        self.data: list[Any] = []

    def reset(self, engine: EngineProtocol | None = None) -> None:
        """Begin a new list.

        Args:
            engine: The engine that starts an epoch. If the engine resumes the epoch, the outputs of the earlier iterations are
                kept. Without an engine, the list is always new.
        """
        if engine is None or engine.state.iteration == engine.state.epoch_start:
            self.data = []

    def update(self, engine: EngineProtocol) -> None:
        """Store the engine's output."""
        self.data.append(self.output_transform(engine.state.output))

    def attach(self, engine: EngineProtocol, name: str | None = None) -> RemovableEventHandle:
        """Store the outputs of an engine.

        Args:
            engine: The engine.
            name: Name of an attribute of ``engine.state`` that is set to the list at the end of each epoch. By default, no
                attribute is set.

        Returns:
            A handle that detaches the handler.

        Raises:
            TypeError: If ``name`` is not a string.
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(
                f"EpochOutputStore.attach: name must be the name of an attribute of engine.state, got {name!r}"
            )
        handles = [
            engine.add_event_handler(Events.EPOCH_STARTED, self.reset),
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.update),
            engine.register_state("EpochOutputStore" if name is None else f"EpochOutputStore:{name}", self),
        ]
        if name is not None:
            handles.append(
                engine.add_event_handler(
                    Events.EPOCH_COMPLETED, lambda engine: setattr(engine.state, name, self.data)
                )
            )
        return RemovableEventHandle.join(*handles)

    def state_dict(self) -> dict[str, Any]:
        """Return the stored outputs."""
        return {"data": list(self.data)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the stored outputs."""
        self.data = list(state_dict["data"])
