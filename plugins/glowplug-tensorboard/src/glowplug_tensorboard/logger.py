"""TensorBoard logger."""

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
    """Writes scalars, histograms, texts, images, figures and hyperparameters to TensorBoard event files.

    The event file is created when the first record is written. If the file cannot be written, for example because the disk is
    full, training continues. The records wait in a queue while the logger tries to create a new file. The name of each value
    becomes a TensorBoard tag. TensorBoard shows the step and the time of each ``log_*`` call. TensorBoard's HPARAMS page shows
    only the hyperparameters of the first ``log_params`` call. TensorBoard's TEXT page shows the hyperparameters of all calls,
    under the tag ``params``.

    Args:
        log_dir: Folder of the event files. Defaults to ``runs/<date>_<host>``.
        comment: Suffix of the default ``log_dir``.
        purge_step: In earlier files of ``log_dir``, TensorBoard hides the records of this step and of all later steps.
        max_queue: Ignored, because events are written immediately; accepted for compatibility with ``SummaryWriter``.
        flush_secs: Ignored, because events are written immediately; accepted for compatibility with ``SummaryWriter``.
        filename_suffix: Suffix of the file names.
        on_error: ``"warn"`` reports errors in the log; ``"raise"`` raises them at the next call of ``log_*``, ``flush`` or
            ``close``.
        capacity: Maximum number of waiting records; further records are dropped and counted.
        timeout: Maximum number of seconds to wait for pending records at the end of a run, in ``flush`` and in ``close``.
        all_ranks: Write on every rank of ``torch.distributed`` instead of on rank 0 only.

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
        """The ``SummaryWriter``, for methods that the logger lacks, such as ``writer.add_graph(model)``.

        Raises:
            ConnectionError: If the event file cannot be created; ``__cause__`` is the original error.
            RuntimeError: If the logger is closed, or if it does not log on this rank.
        """
        self.ensure_open()
        return self._opened()

    def open_backend(self) -> None:
        """Create the event file."""
        from glowplug_tensorboard.event_file import Writer

        self._writer = Writer(
            self.log_dir, self.comment, self.purge_step, self.max_queue, self.flush_secs, self.filename_suffix
        )
        # If this file fails, the next file is created in the same folder and does not purge records again.
        self.log_dir = self._writer.log_dir
        self.purge_step = None

    def _opened(self) -> Writer:
        if self._writer is None:
            raise ConnectionError(f"the event file in {self.log_dir} is not open")
        return self._writer

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        """Yield the writer; turn an OSError into a ConnectionError, so that the logger opens a new file."""
        try:
            yield self._opened()
        except OSError as error:
            raise ConnectionError(f"the event file in {self.log_dir} cannot be written: {error}") from error

    def _add(self, summary: Any, step: int | None = None, timestamp: float | None = None) -> None:
        with self._writing() as writer:
            writer.summaries.add_summary(summary, step, timestamp)

    def write_scalars(self, scalars: Mapping[str, float], step: int, timestamp: float) -> None:
        """Write numbers; the name of each number is its tag."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        # SummaryWriter.add_scalar writes one event per scalar, which takes ten times as long as one event for all scalars.
        summary = Summary()
        for name, value in scalars.items():
            summary.value.add(tag=name, simple_value=value)
        self._add(summary, step, timestamp)

    def write_histogram(self, name: str, values: Any, step: int, timestamp: float) -> None:
        """Write the distribution of an array's finite values; the array may have any shape.

        Raises:
            ValueError: If no value is finite.
        """
        import numpy as np

        array = np.asarray(values, dtype=np.float64)
        finite = array[np.isfinite(array)]
        if not finite.size:
            raise ValueError(f"histogram {name!r} at step {step}: none of the {array.size} values is finite")
        with self._writing() as writer:
            writer.add_histogram(name, finite, step, walltime=timestamp)

    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text; TensorBoard renders it as Markdown."""
        with self._writing() as writer:
            writer.add_text(name, text, step, walltime=timestamp)

    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        """Write an image or a batch of images.

        The shape is ``(height, width)``, ``(channels, height, width)``, ``(height, width, channels)`` or
        ``(n, channels, height, width)``. A three-dimensional image has 1, 3 or 4 channels. Floats are between 0 and 1, and
        ``uint8`` values are between 0 and 255.

        Raises:
            ValueError: If the image has another shape.
        """
        layout = _layout(name, tuple(image.shape))
        with self._writing() as writer:
            writer.add_image(name, image, step, walltime=timestamp, dataformats=layout)

    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        """Write a matplotlib figure as an image."""
        self.write_image(name, figure, step, timestamp)

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters; nested names are joined with a slash, as in ``optimizer/lr``."""
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
        """Close the event file; if hyperparameters were logged, first write the status of the session."""
        if self._params_logged:
            self._add(session_end(outcome))
        with self._writing() as writer:
            writer.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_writer": None}


def _layout(name: str, shape: tuple[int, ...]) -> str:
    match shape:
        case (_, _):
            return "HW"
        case (channels, _, _) if channels in CHANNELS:
            return "CHW"
        case (_, _, channels) if channels in CHANNELS:
            return "HWC"
        case (_, _, _, _):
            return "NCHW"
    raise ValueError(
        f"image {name!r} has shape {shape}; expected (height, width), (channels, height, width) or (height, width, channels) "
        "with 1, 3 or 4 channels, or (n, channels, height, width)"
    )
