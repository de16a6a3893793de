"""The TensorBoard logger."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from glowplug import RunOutcome
from glowplug.loggers import Logger, OnError, flatten_params
from glowplug_tensorboard.hparams import session_end, session_start

if TYPE_CHECKING:
    from glowplug_tensorboard.event_file import Writer

PARAMS_TAG = "params"
CHANNELS = (1, 3, 4)


class TensorboardLogger(Logger):
    """Writes TensorBoard event files: scalars, histograms, texts, images, figures and hyperparameters.

    Files are made when there is something to write, on rank 0 only, by ``torch.utils.tensorboard``. If they cannot be
    written (no space, no permission), records wait, a new file is tried, and training goes on. Each name is a tag of
    its own; steps and wall times are those of the call. ``log_params`` shows on the HPARAMS page (the first call only) and on
    the TEXT page (each call, under ``params``).

    Args:
        log_dir: where the files go; ``runs/<date>_<host>`` by default.
        comment: what the default ``log_dir`` ends with.
        purge_step: hide what earlier files in ``log_dir`` hold from this step on.
        max_queue: taken as by ``SummaryWriter``; no event waits in a second queue here.
        flush_secs: the same; each event is written when its turn comes.
        filename_suffix: what file names end with.
        on_error: ``"warn"``: report what cannot be written and go on; ``"raise"``: raise at the next call.
        capacity: how many records may wait before further ones are dropped (and counted).
        timeout: seconds that ``flush`` and ``close`` wait at most.
        all_ranks: write on every rank of ``torch.distributed`` instead of rank 0 only.

    Example:
        >>> import tempfile
        >>> from glowplug import Engine, Events
        >>> trainer = Engine(lambda engine, batch: 1 / batch)
        >>> with tempfile.TemporaryDirectory() as folder, TensorboardLogger(folder) as logger:
        ...     logger.log_params({"lr": 0.1})
        ...     _ = logger.attach_output_handler(
        ...         trainer,
        ...         Events.ITERATION_COMPLETED,
        ...         tag="training",
        ...         output_transform=lambda loss: {"loss": loss},
        ...     )
        ...     state = trainer.run([1, 2, 4])
        ...     logger.counts
        Counts(sent=4, dropped=0, pending=0)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str = "",
        *,
        on_error: OnError = "warn",
        capacity: int = 100_000,
        timeout: float = 10.0,
        all_ranks: bool = False,
    ) -> None:
        super().__init__(on_error=on_error, capacity=capacity, timeout=timeout, all_ranks=all_ranks)
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        self.comment = comment
        self.purge_step = purge_step
        self.max_queue = max_queue
        self.flush_secs = flush_secs
        self.filename_suffix = filename_suffix
        self._writer: Writer | None = None
        self._params_logged = 0

    @property
    def writer(self) -> Writer:
        """The ``SummaryWriter``, for what a logger does not offer, such as ``writer.add_graph(model)``.

        Raises:
            ConnectionError: its file could not be made; the cause says why.
            RuntimeError: the logger is closed, or does not log on this rank.
        """
        self.ensure_open()
        return self._opened()

    def open_backend(self) -> None:
        """Make the event file."""
        from glowplug_tensorboard.event_file import Writer

        self._writer = Writer(
            self.log_dir, self.comment, self.purge_step, self.max_queue, self.flush_secs, self.filename_suffix
        )
        self.log_dir = self._writer.log_dir  # a second file, after a failure, goes to the same place
        self.purge_step = None

    def _opened(self) -> Writer:
        if self._writer is None:
            raise ConnectionError(f"there is no event file in {self.log_dir} yet")
        return self._writer

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        """Give the writer; if its file cannot be written any more, ask for a new one."""
        try:
            yield self._opened()
        except OSError as error:
            raise ConnectionError(f"the event file in {self.log_dir} cannot be written: {error}") from error

    def _add(self, summary: Any, step: int | None = None, timestamp: float | None = None) -> None:
        with self._writing() as writer:
            writer.summaries.add_summary(summary, step, timestamp)

    def write_scalars(self, scalars: Mapping[str, float], step: int, timestamp: float) -> None:
        """Write numbers, each under its name as the tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        # One event for all: SummaryWriter.add_scalar makes one each, at ten times the cost.
        summary = Summary()
        for name, value in scalars.items():
            summary.value.add(tag=name, simple_value=value)
        self._add(summary, step, timestamp)

    def write_histogram(self, name: str, values: Any, step: int, timestamp: float) -> None:
        """Write the distribution of the finite values of a tensor or array of any shape.

        Raises:
            ValueError: none of the values is finite.
        """
        import numpy as np

        array = np.asarray(values, dtype=np.float64)
        finite = array[np.isfinite(array)]
        if not finite.size:
            raise ValueError(f"histogram {name!r} at step {step}: none of the {array.size} values is finite")
        with self._writing() as writer:
            writer.add_histogram(name, finite, step, walltime=timestamp)

    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text, which TensorBoard shows as Markdown."""
        with self._writing() as writer:
            writer.add_text(name, text, step, walltime=timestamp)

    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        """Write an image: ``(height, width)``, channels first or last, or many as ``(n, channels, height, width)``.

        Floats are in 0 to 1, ``uint8`` in 0 to 255.

        Raises:
            ValueError: another shape.
        """
        shape = image.shape
        if len(shape) == 2:  # noqa: PLR2004 - height and width
            layout = "HW"
        elif len(shape) == 3 and shape[0] in CHANNELS:  # noqa: PLR2004 - and channels
            layout = "CHW"
        elif len(shape) == 3 and shape[2] in CHANNELS:  # noqa: PLR2004
            layout = "HWC"
        elif len(shape) == 4:  # noqa: PLR2004 - and a batch of them
            layout = "NCHW"
        else:
            raise ValueError(
                f"image {name!r} has the shape {tuple(shape)}; give (height, width), one with 1, 3 or 4 channels first or last, "
                "or (n, channels, height, width)"
            )
        with self._writing() as writer:
            writer.add_image(name, image, step, walltime=timestamp, dataformats=layout)

    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        """Write a matplotlib figure as an image."""
        self.write_image(name, figure, step, timestamp)

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters; nested ones as ``optimizer/lr``."""
        flat = flatten_params(params)
        rows = "".join(f"| {name} | {value} |\n" for name, value in flat.items())
        with self._writing() as writer:
            writer.add_text(PARAMS_TAG, f"| name | value |\n|---|---|\n{rows}", self._params_logged)
        self._add(session_start(flat))
        self._params_logged += 1

    def flush_backend(self) -> None:
        """Flush the event file."""
        with self._writing() as writer:
            writer.flush()

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Close the file; with hyperparameters in it, write first how the run ended."""
        if self._params_logged:
            self._add(session_end(outcome))
        with self._writing() as writer:
            writer.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_writer": None}
