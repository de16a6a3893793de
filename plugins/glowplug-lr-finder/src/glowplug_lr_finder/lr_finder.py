"""The learning rate range test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch

from glowplug.exceptions import GlowplugWarning
from glowplug.typing import Stateful
from glowplug_lr_finder.curve import steepest
from glowplug_lr_finder.options import (
    Options,
    Rates,
    StepMode,
    checked_rates,
    optimizer_in,
    rates_of,
    set_rates,
)
from glowplug_lr_finder.plotting import plot_curve
from glowplug_lr_finder.restoring import Trainer, restored
from glowplug_lr_finder.search import Search

_Trainer = TypeVar("_Trainer", bound=Trainer)


def _identity(output: Any) -> Any:
    return output


class FastaiLRFinder:
    """Find a learning rate with a learning rate range test.

    In a run of the trainer, the learning rate rises in each iteration until the loss diverges. The suggested learning rate is the one at
    which the loss falls fastest. Afterwards, the trainer and the objects are as before, even after an exception.

    Example:
        >>> from glowplug import Engine
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        >>> def step(engine, batch):
        ...     optimizer.zero_grad()
        ...     loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss.item()
        >>> trainer, finder = Engine(step), FastaiLRFinder()
        >>> with finder.attach(trainer, {"model": model, "optimizer": optimizer}, num_iter=100):
        ...     _ = trainer.run(torch.randn(20, 16, 4))
        >>> finder.apply_suggested_lr(optimizer)
        >>> 0.001 < optimizer.param_groups[0]["lr"] < 1
        True
    """

    def __init__(self) -> None:
        self._history: dict[str, list[Any]] = {}
        # The optimizer of the search in progress.
        self._optimizer: torch.optim.Optimizer | None = None

    def attach(
        self,
        trainer: _Trainer,
        to_save: Mapping[str, Stateful] | None = None,
        output_transform: Callable[[Any], Any] = _identity,
        num_iter: int | None = None,
        start_lr: Rates | None = None,
        end_lr: Rates = 10.0,
        step_mode: StepMode = "exp",
        smooth_f: float = 0.05,
        diverge_th: float = 5.0,
    ) -> AbstractContextManager[_Trainer]:
        """Return a context manager in which each run of the trainer is a new run and a search.

        When the ``with`` block ends, even by an exception, the finder is detached. The trainer, its handlers, the objects of
        ``to_save``, the parameters of the optimizer and the random number generators have the states that they had before. Other
        handlers of the trainer run during the search.

        Args:
            trainer: The trainer, whose step trains the model with the optimizer.
            to_save: The objects that the run changes, such as ``{"model": model, "optimizer": optimizer}``. Required; without it, as in
                ``trainer.attach(finder)``, the error shows this example. The states of the objects are copied in memory.
            output_transform: Function that takes ``trainer.state.output`` and returns the loss, a number or a tensor with one
                element. By default, the output is the loss. Under ``torch.distributed``, the losses of all ranks are added.
            num_iter: Number of iterations of the search; the data is repeated if necessary. Defaults to the length of the run.
            start_lr: The lowest learning rate, or one for each parameter group. Defaults to the learning rates of the optimizer.
            end_lr: The highest learning rate, or one for each parameter group.
            step_mode: ``"exp"`` multiplies the learning rate by the same factor in each iteration, ``"linear"`` adds the same number.
            smooth_f: Weight of the latest loss in the smoothed loss, from 0 to less than 1; 0 disables smoothing.
            diverge_th: The search ends when the smoothed loss is greater than its minimum times this factor, or not finite. Must be at
                least 1; ``float("inf")`` ends the search only if the loss is not finite.

        Returns:
            A context manager that returns the trainer.

        Raises:
            TypeError: If ``to_save`` is not a mapping of objects with states, or if another option has the wrong type.
            ValueError: If ``to_save`` has no optimizer, or if the value of an option is out of range.

        Example:
            >>> from glowplug import Engine
            >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
            >>> trainer = Engine(lambda engine, batch: {"loss": batch})
            >>> finder = FastaiLRFinder()
            >>> search = finder.attach(
            ...     trainer,
            ...     {"optimizer": optimizer},
            ...     lambda output: output["loss"],
            ...     step_mode="linear",
            ...     smooth_f=0,
            ... )
            >>> with search as trainer:
            ...     _ = trainer.run([3.0, 1.0, 20.0])
            >>> finder.get_results()["loss"], trainer.state.iteration
            ([3.0, 1.0, 20.0], 0)
        """
        optimizer = optimizer_in(to_save)
        groups = len(optimizer.param_groups)
        options = Options(
            output_transform,
            num_iter,
            rates_of(optimizer) if start_lr is None else checked_rates("start_lr", start_lr, groups),
            checked_rates("end_lr", end_lr, groups),
            step_mode,
            smooth_f,
            diverge_th,
        )
        return self._searching(trainer, dict(to_save or {}), optimizer, options)

    @contextmanager
    def _searching(
        self,
        trainer: _Trainer,
        to_save: Mapping[str, Stateful],
        optimizer: torch.optim.Optimizer,
        options: Options,
    ) -> Iterator[_Trainer]:
        if self._optimizer is not None:
            raise RuntimeError(
                "FastaiLRFinder: a search of this finder is in progress; end its with block first, or create another finder"
            )
        self._history.clear()
        self._optimizer = optimizer
        try:
            with (
                restored(trainer, to_save, optimizer),
                Search(optimizer, options, self._history).attach(trainer),
            ):
                yield trainer
        finally:
            self._optimizer = None

    def get_results(self) -> dict[str, list[Any]]:
        """Return the learning rates and the smoothed losses of the last search.

        Returns:
            Lists under ``"lr"`` and ``"loss"``, with one value for each iteration; empty before the first search. With several
            parameter groups, each learning rate is a list.
        """
        return {name: list(values) for name, values in self._history.items()}

    def lr_suggestion(self) -> Any:
        """Return the learning rate at which the loss falls fastest; with several parameter groups, a list of learning rates.

        Raises:
            RuntimeError: If no search has run, or if the loss does not fall before it rises.
        """
        self._check_results("lr_suggestion()")
        return self._history["lr"][steepest(self._history["loss"])]

    def apply_suggested_lr(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rates of an optimizer to the suggested ones.

        Args:
            optimizer: The optimizer of the search, or one with the same parameter groups.

        Raises:
            RuntimeError: If there is no suggestion, if the number of parameter groups differs, or if the call takes place within the
                ``with`` block, which restores the learning rate of the optimizer.
        """
        if optimizer is self._optimizer:
            raise RuntimeError(
                "FastaiLRFinder: apply_suggested_lr() was called within the with block, whose end restores the learning rate; call it "
                "after the block"
            )
        suggested = self.lr_suggestion()
        rates = list(suggested) if isinstance(suggested, Sequence) else [suggested]
        if len(rates) != len(optimizer.param_groups):
            raise RuntimeError(
                f"FastaiLRFinder: the optimizer has {len(optimizer.param_groups)} parameter groups, but the optimizer of the search had "
                f"{len(rates)}; pass the optimizer of the search"
            )
        set_rates(optimizer, rates)

    def plot(
        self,
        skip_start: int = 10,
        skip_end: int = 5,
        log_lr: bool = True,
        display_suggestion: bool = True,
        ax: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Plot the loss over the learning rate; requires matplotlib.

        Args:
            skip_start: Number of points to omit at the start.
            skip_end: Number of points to omit at the end.
            log_lr: Whether the axis of the learning rate is logarithmic.
            display_suggestion: Whether to mark the suggested learning rate.
            ax: Axes to draw on. By default, a new figure is created; to show it in a window, call ``matplotlib.pyplot.show()``.
            **kwargs: Options of the new figure, passed to ``matplotlib.pyplot.subplots``.

        Returns:
            The axes.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
            RuntimeError: If no search has run.
            ValueError: If a number is negative, or if no points are left.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise ModuleNotFoundError(
                'FastaiLRFinder.plot() requires matplotlib: pip install "glowplug-lr-finder[plot]"'
            ) from None
        self._check_results("plot()")
        for name, value in (("skip_start", skip_start), ("skip_end", skip_end)):
            if value < 0:
                raise ValueError(f"FastaiLRFinder.plot: {name} cannot be negative, got {value}")
        losses = self._history["loss"]
        suggested = self._index_to_mark() if display_suggestion else None
        if ax is None:
            _, ax = plt.subplots(**kwargs)
        plot_curve(self._history["lr"], losses, suggested, skip_start, len(losses) - skip_end, ax)
        if log_lr:
            ax.set_xscale("log")
        return ax

    def _index_to_mark(self) -> int | None:
        try:
            return steepest(self._history["loss"])
        except RuntimeError as error:
            warnings.warn(str(error), GlowplugWarning, stacklevel=3)
            return None

    def _check_results(self, caller: str) -> None:
        if len(self._history.get("loss", ())) == 0:
            raise RuntimeError(
                f"FastaiLRFinder: there are no results for {caller}, because no search has run; call trainer.run(...) within "
                "`with finder.attach(trainer, to_save):` first"
            )


LRFinder = FastaiLRFinder
"""A shorter name of :class:`FastaiLRFinder`."""
