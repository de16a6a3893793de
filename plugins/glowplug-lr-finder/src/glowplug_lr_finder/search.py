"""One search: raises the learning rate in each iteration and records the loss."""

from __future__ import annotations

import logging
import math
import warnings
from numbers import Real
from typing import Any

import torch

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.distributed import all_reduce, rank
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import EngineProtocol
from glowplug_lr_finder.options import Options, set_rates

_log = logging.getLogger("glowplug_lr_finder")


class Search:
    """Handlers that perform the search in each run of a trainer.

    Args:
        optimizer: The optimizer whose learning rates are set.
        options: The options of the search.
        history: Receives the learning rates under ``"lr"`` and the smoothed losses under ``"loss"``.

    Example:
        >>> from glowplug import Engine
        >>> parameter = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = torch.optim.SGD([parameter], lr=0.1)
        >>> options = Options(lambda output: output, None, [0.0], [3.0], "linear", 0.0, 5.0)
        >>> trainer, history = Engine(lambda engine, batch: batch), {}
        >>> with Search(optimizer, options, history).attach(trainer):
        ...     _ = trainer.run([1.0, 0.5, 9.0])
        >>> history
        {'lr': [0.0, 1.0, 2.0], 'loss': [1.0, 0.5, 9.0]}
    """

    # Set the learning rate after all other handlers of ITERATION_STARTED.
    phase = Phase.CHECKPOINT

    def __init__(
        self, optimizer: torch.optim.Optimizer, options: Options, history: dict[str, list[Any]]
    ) -> None:
        self._optimizer = optimizer
        self._options = options
        self._history = history
        self._total = 0
        self._rates: list[float] = []
        self._best = math.inf
        self._has_diverged = False

    def attach(self, trainer: EngineProtocol) -> RemovableEventHandle:
        """Register the handlers, and make the next run of the trainer a new one.

        Returns:
            A handle that removes all of them.
        """
        self.end(trainer)
        return RemovableEventHandle.join(
            trainer.add_event_handler(Events.STARTED, self.begin),
            trainer.add_event_handler(Events.ITERATION_STARTED, self),
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self.record),
            trainer.add_event_handler(Events.COMPLETED, self.report),
            trainer.add_event_handler(Events.TEARDOWN, self.end),
        )

    def begin(self, engine: EngineProtocol) -> None:
        """Start a new search, and limit the run to its iterations.

        Raises:
            ValueError: If the number of iterations is unknown.
        """
        state = engine.state
        self._total = self._options.num_iter or _length(engine)
        self._best, self._has_diverged = math.inf, False
        self._history.update(lr=[], loss=[])
        # The data is repeated if necessary.
        state.max_epochs, state.max_iters = None, self._total

    def __call__(self, engine: EngineProtocol) -> None:
        """Set the learning rates of an iteration."""
        self._rates = self._options.rates(engine.state.iteration, self._total)
        set_rates(self._optimizer, self._rates)

    def record(self, engine: EngineProtocol) -> None:
        """Record the loss of an iteration, and end the run if the loss diverges.

        Raises:
            TypeError: If the loss is not a number.
            ValueError: If the loss is a tensor with several elements.
        """
        if self._has_diverged:
            # With several ranks, the run ends a few iterations after all of them have requested its end.
            return
        loss = float(all_reduce(loss_in(self._options.output_transform(engine.state.output))))
        losses, smooth = self._history["loss"], self._options.smooth_f
        if losses and smooth > 0:
            loss = smooth * loss + (1 - smooth) * losses[-1]
        if math.isfinite(loss):
            losses.append(loss)
            self._history["lr"].append(self._rates[0] if len(self._rates) == 1 else self._rates)
            self._best = min(self._best, loss)
        # For a positive loss, this limit is diverge_th times the best loss.
        limit = self._best + (self._options.diverge_th - 1) * abs(self._best)
        if not loss <= limit:
            self._has_diverged = True
            if rank() == 0:
                _log.info("the loss has diverged at the learning rate %s; the search ends", self._rates)
            engine.terminate()

    def report(self, engine: EngineProtocol) -> None:
        """Warn if the loss did not diverge."""
        if not self._has_diverged:
            warnings.warn(
                f"FastaiLRFinder: the loss did not diverge up to the learning rate {max(self._rates, default=0.0):g}, so the curve may "
                "be incomplete; increase end_lr, decrease diverge_th, or look at plot()",
                GlowplugWarning,
                stacklevel=2,
            )

    def end(self, engine: EngineProtocol) -> None:
        """Remove the limits of the run, so that the next run is a new one."""
        engine.state.max_epochs = engine.state.max_iters = None


def loss_in(output: object) -> float:
    """Return the loss as a number.

    Example:
        >>> loss_in(torch.tensor([0.5]))
        0.5
    """
    if isinstance(output, torch.Tensor):
        if output.numel() != 1:
            raise ValueError(
                f"FastaiLRFinder: the loss must be a single number, got a tensor of shape {tuple(output.shape)}; return the mean in "
                "output_transform"
            )
        return float(output.detach())
    if not isinstance(output, Real):
        raise TypeError(
            f"FastaiLRFinder: the loss must be a number or a tensor with one element, got {type(output).__name__}; pass "
            "output_transform to attach(), such as output_transform=lambda output: output['loss']"
        )
    return float(output)


def _length(engine: EngineProtocol) -> int:
    """Return the number of iterations of the run."""
    state = engine.state
    if state.max_iters is not None:
        return state.max_iters
    if state.epoch_length is None or state.max_epochs is None:
        raise ValueError(
            "FastaiLRFinder: the number of iterations is unknown, because the data has no length; pass num_iter to attach()"
        )
    return state.epoch_length * state.max_epochs
