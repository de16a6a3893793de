"""The Weights & Biases logger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glowplug import RunOutcome
from glowplug.loggers import Logger, OnError

if TYPE_CHECKING:
    from wandb import Run

STEP = "glowplug/step"

EXIT_CODES = {
    None: 0,
    RunOutcome.COMPLETED: 0,
    RunOutcome.TERMINATED: 0,
    RunOutcome.FAILED: 1,
    # The exit code of a program that Ctrl-C has ended.
    RunOutcome.INTERRUPTED: 130,
}


class WandbLogger(Logger):
    """Logs to Weights & Biases: scalars, hyperparameters, histograms, images and figures.

    A run of its own is started when there is something to log, beside any run that is active already, and finished with an
    exit code that says how the engine's run ended. A run that is given as ``run`` is used as it is, and never finished.

    W&B's own step may only grow, while glowplug logs epochs and iterations as they come: the step is stored as
    ``glowplug/step``, which is the x-axis of all charts.

    Args:
        project: where the run goes; W&B's default if it is not given.
        run: a run that you have started; then there is nothing to give for a new one.
        on_error: ``"warn"``: report what cannot be logged and go on; ``"raise"``: raise at the next call.
        capacity: how many records may wait before further ones are dropped (and counted).
        timeout: seconds that ``flush`` and ``close`` wait at most.
        all_ranks: log on every rank of ``torch.distributed``, each to a run of its own, instead of rank 0 only.
        **init: what else ``wandb.init`` takes: ``name``, ``dir``, ``mode``, ``tags``, ``settings`` ...

    Raises:
        ValueError: a ``run``, and with it what describes a new one.

    Example:
        >>> WandbLogger("digits", name="first", mode="offline").project
        'digits'
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        run: Run | None = None,
        on_error: OnError = "warn",
        capacity: int = 100_000,
        timeout: float = 10.0,
        all_ranks: bool = False,
        **init: Any,
    ) -> None:
        super().__init__(on_error=on_error, capacity=capacity, timeout=timeout, all_ranks=all_ranks)
        if run is not None and (project is not None or init):
            raise ValueError(
                f"WandbLogger: the run {run.id} is there already; leave out {', '.join(['project', *init])}, for a new one"
            )
        self.project = project
        self.init = init
        self._run = run
        self._is_mine = run is None

    def open_backend(self) -> None:
        """Start the run, unless there is one."""
        import wandb

        if self._run is None:
            # Without "create_new", wandb.init() returns or finishes a run that the user has started.
            self._run = wandb.init(project=self.project, reinit="create_new", **self.init)
            self._run.define_metric("*", step_metric=STEP)

    def write_scalars(self, scalars: Mapping[str, float], step: int, timestamp: float) -> None:
        """Write numbers."""
        self._log(scalars, step, timestamp)

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters to the run's config; a later value replaces an earlier one."""
        # The methods of the config have no types.
        config: Any = self._opened().config
        config.update(dict(params), allow_val_change=True)

    def write_histogram(self, name: str, values: Any, step: int, timestamp: float) -> None:
        """Write the distribution of the finite values of an array."""
        import numpy as np
        import wandb

        array = np.asarray(values, dtype=np.float64)
        histogram = np.histogram(array[np.isfinite(array)], bins=64)
        self._log({name: wandb.Histogram(np_histogram=histogram)}, step, timestamp)

    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        """Write an image: ``(height, width)`` or ``(height, width, channels)``."""
        import wandb

        self._log({name: wandb.Image(image)}, step, timestamp)

    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        """Write a matplotlib figure, which arrives as pixels, as an image; a plotly figure as it is."""
        import wandb

        self._log({name: wandb.Image(figure) if hasattr(figure, "ndim") else figure}, step, timestamp)

    def flush_backend(self) -> None:
        """Wait until W&B's service process has all records."""
        # The service answers this query after everything that was sent before.
        _ = self._opened().step

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Finish the run, if this logger has started it."""
        if self._is_mine:
            self._opened().finish(exit_code=EXIT_CODES[outcome])

    def _log(self, values: Mapping[str, Any], step: int, timestamp: float) -> None:
        self._opened().log({**values, STEP: step, "_timestamp": timestamp})

    def _opened(self) -> Run:
        if self._run is None:
            raise ConnectionError("the run is not open")
        return self._run

    def __getstate__(self) -> dict[str, Any]:
        """Omit the run; a copy starts a new one."""
        return {**super().__getstate__(), "_run": None, "_is_mine": True}
