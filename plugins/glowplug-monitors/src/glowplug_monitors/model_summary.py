"""Summary of a model at the start of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.distributed import rank
from glowplug.typing import AnyEvent, EngineProtocol

if TYPE_CHECKING:
    import torch

__all__ = ["ModelSummary"]


class ModelSummary:
    """Print the layers of a model, with their numbers of parameters and output shapes, when a run starts.

    `torchinfo <https://github.com/TylerYep/torchinfo>`_ makes the table; to install it, run
    ``pip install "glowplug-monitors[summary]"``. Only rank 0 prints the table.

    Args:
        model: The model.
        input_size: Shape of the model's input, or shapes of its inputs, with the batch dimension. Without it, the model is not
            called, and the table has no shapes.
        depth: Number of levels of nested modules.
        show: Function that gets the text.

    Raises:
        ImportError: If torchinfo is not installed.
        ValueError: If ``depth`` is below 1.

    Example:
        >>> import torch
        >>> from glowplug import Engine
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())
        >>> lines = []
        >>> engine = Engine(lambda engine, batch: None)
        >>> handle = ModelSummary(model, input_size=(2, 8), show=lines.append).attach(engine)
        >>> state = engine.run([1])
        >>> "[2, 4]" in lines[0], "Total params: 36" in lines[0]
        (True, True)
    """

    phase = Phase.LOGGING

    def __init__(
        self,
        model: torch.nn.Module,
        input_size: Sequence[int] | Sequence[Sequence[int]] | None = None,
        depth: int = 3,
        show: Callable[[str], Any] = print,
    ) -> None:
        if depth < 1:
            raise ValueError(f"ModelSummary: depth must be at least 1, got {depth!r}")
        try:
            from torchinfo import summary
        except ImportError as error:
            raise ImportError(
                "ModelSummary needs torchinfo: pip install glowplug-monitors[summary]"
            ) from error
        self._summary = summary
        self._model = model
        self._input_size = input_size
        self._depth = depth
        self._show = show

    def attach(self, engine: EngineProtocol, event_name: AnyEvent = Events.STARTED) -> RemovableEventHandle:
        """Print the summary at an event.

        Args:
            engine: The engine.
            event_name: The event.
        """
        return engine.add_event_handler(event_name, self.print)

    def print(self) -> None:
        """Print the summary, on rank 0."""
        if rank() == 0:
            table = self._summary(self._model, input_size=self._input_size, depth=self._depth, verbose=0)
            self._show(str(table))
