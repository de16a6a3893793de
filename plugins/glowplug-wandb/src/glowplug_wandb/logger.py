"""Weights & Biases logger."""

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
    # Exit code of a program that was interrupted with Ctrl-C.
    RunOutcome.INTERRUPTED: 130,
}


class WandbLogger(Logger):
    """Logs to Weights & Biases: scalars, hyperparameters, histograms, images and figures.

    The logger starts a new W&B run at the first record; it does not use a run that is already active. When the logger closes,
    it finishes the new run with an exit code that depends on the outcome of the engine's run. A run passed as ``run`` stays
    open.

    W&B requires steps to increase, but a run logs both epochs and iterations. The logger therefore stores the step as
    ``glowplug/step`` and makes it the x-axis of all charts.

    Args:
        project: Project of the new run. Defaults to W&B's default project.
        run: A run that you have started. It cannot be combined with ``project`` or ``init``.
        on_error: ``"warn"`` reports errors in the log; ``"raise"`` raises them at the next call.
        capacity: Number of records that can wait; further ones are dropped and counted.
        timeout: Maximum time in seconds that ``flush`` and ``close`` wait.
        all_ranks: Log on every rank of ``torch.distributed``, each rank to a separate run, instead of on rank 0 only.
        **init: Further arguments of ``wandb.init``, such as ``name``, ``dir``, ``mode``, ``tags`` and ``settings``.

    Raises:
        ValueError: If ``run`` is combined with arguments for a new run.

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
                f"WandbLogger: run {run.id} already exists; do not pass {', '.join(['project', *init])}, which apply to a new run"
            )
        self.project = project
        self.init = init
        self._run = run
        self._is_mine = run is None

    def open_backend(self) -> None:
        """Start a run unless the user passed one."""
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
        """Write a figure: matplotlib figures arrive as pixels and become images; plotly figures are logged unchanged."""
        import wandb

        self._log({name: wandb.Image(figure) if hasattr(figure, "ndim") else figure}, step, timestamp)

    def flush_backend(self) -> None:
        """Wait until W&B's service process has all records."""
        # The service answers this query only after it has processed all earlier records.
        _ = self._opened().step

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Finish the run if this logger started it."""
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
