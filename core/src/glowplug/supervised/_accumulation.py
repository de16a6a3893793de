"""Gradients of an incomplete accumulation window, saved with the engine's state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch


class GradientAccumulation:
    """State of a gradient accumulation window.

    A checkpoint of models and optimizers contains no gradients. Within a window, the optimizer step needs the gradients that the
    earlier iterations of the window have accumulated.

    Args:
        optimizer: The optimizer, whose parameters have the gradients.

    Attributes:
        is_open: Whether the parameters have gradients of an incomplete window.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self.is_open = False

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the gradients in the order of the optimizer's parameters; ``None`` at the end of a window."""
        if not self.is_open:
            return {"gradients": None}
        gradients = (parameter.grad for parameter in self._parameters())
        return {"gradients": [None if each is None else each.detach().clone() for each in gradients]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Set the gradients.

        Raises:
            ValueError: If the state has another number of parameters than the optimizer.
        """
        gradients, parameters = state_dict["gradients"], list(self._parameters())
        self.is_open = gradients is not None
        if gradients is None:
            return
        if len(gradients) != len(parameters):
            raise ValueError(
                f"the saved accumulation window has gradients of {len(gradients)} parameters, but this optimizer has "
                f"{len(parameters)}; create the trainer with the same optimizer as in the saved run"
            )
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # A copy, so that the state can be loaded again.
            parameter.grad = None if gradient is None else gradient.to(parameter, copy=True)

    def _parameters(self) -> Iterator[torch.Tensor]:
        for group in self._optimizer.param_groups:
            yield from group["params"]
